"""Sweeps are kept in the history as they come, and go on from there, in another session and after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.analyze.keeping import KIND, pack_sensitivity, question_text, recall_all
from workbench.analyze.sensitivity import measure_sensitivity
from workbench.analyze.studies import studies_of
from workbench.analyze.sweep import _Sweep
from workbench.data.load import load_dataset
from workbench.history import History
from workbench.recipe import Recipe
from workbench.session import Session

LEVELS = [8, 3, 2]

KILLED = """
import sys
from workbench.analyze import keeping
from workbench.analyze.sensitivity import measure_sensitivity
from workbench.session import Session
keeping.PACE, keeping.PATIENCE = 0.0, 0.0
with Session("lenet300", "fashion_mnist", history=sys.argv[1]) as session:
    job = measure_sensitivity(session, "quantize", values=[8, 3, 2], keep=True)
    job.subscribe(lambda progress: print(int(job.latest.n.min()) if job.latest else 0, flush=True))
    job.wait()
"""


def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the images of the pieces that sweeps run from now on."""
    found: list[int] = []
    note = _Sweep._note

    def count(self: _Sweep, piece: object, told: object) -> None:
        found.append(piece.last - piece.first)  # type: ignore[attr-defined]
        note(self, piece, told)  # type: ignore[arg-type]

    monkeypatch.setattr(_Sweep, "_note", count)
    return found


def test_a_sweep_of_another_day_is_there_at_once_and_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "h.sqlite")
    with Session("lenet300", "fashion_mnist", history=path) as session:
        first = studies_of(session).start(session, "quantize", 0.02).result()
        assert studies_of(session).trouble == ""
    ran = runs(monkeypatch)
    with Session("lenet300", "fashion_mnist", history=path) as session:
        studies = studies_of(session)
        start = time.perf_counter()
        studies.recall(session)
        assert time.perf_counter() - start < 1
        kept = studies.of("quantize", "only")
        assert kept is not None
        for name in ("value", "low", "high", "n"):
            assert np.array_equal(getattr(kept, name), getattr(first, name))
        assert studies.of("quantize", "others") is None
        again = measure_sensitivity(session, "quantize", tolerance=0.02, keep=True).result()
        assert np.array_equal(again.value, first.value)
        assert not ran


def test_a_sweep_that_was_cut_off_is_shown_as_far_as_it_came(tmp_path: Path) -> None:
    path = str(tmp_path / "h.sqlite")
    with Session("lenet300", "fashion_mnist", history=path) as session:
        found = studies_of(session).start(session, "quantize", 0.05).result()
        part = found.copy()
        part.n[1:] = 0
        for figures in (part.value, part.low, part.high):
            figures[1:] = np.nan
        text = question_text(found.question)
        session.history.keep_finding(session.key, KIND, text, pack_sensitivity(part), done=False)
    with Session("lenet300", "fashion_mnist", history=path) as session:
        session.measure()
        studies_of(session).recall(session)
        kept = studies_of(session).of("quantize", "only")
        assert kept is not None
        assert np.array_equal(kept.n, part.n)
        assert session.apply("- quantize: {bits: 3}")  # nothing is foreseen from a sweep of one layer
        assert next(session.snapshots()).predicted is None


def test_a_finer_wish_goes_on_from_a_coarser_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "h.sqlite")
    with Session("lenet300", "fashion_mnist", history=path) as session:
        coarse = measure_sensitivity(session, "quantize", values=LEVELS, tolerance=0.03, keep=True).result()
    ran = runs(monkeypatch)
    with Session("lenet300", "fashion_mnist", history=path) as session:
        fine = measure_sensitivity(session, "quantize", values=LEVELS, tolerance=0.01, keep=True).result()
        assert (fine.n >= coarse.n).all()
        assert sum(ran) <= fine.n.max(1).sum() - coarse.n.min(1).sum()
        ran.clear()
        measure_sensitivity(session, "quantize", values=LEVELS, tolerance=0.03).result()  # keeps and recalls nothing
        assert ran


def test_what_was_calibrated_otherwise_is_not_taken_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        levels = {"values": [0.5], "tolerance": 0.05, "keep": True}
        found = measure_sensitivity(session, "prune", **levels).result()  # type: ignore[arg-type]
        wanda = type(found.question)(**{**vars(found.question), "settings": {"criterion": "wanda"}})
        before = question_text(found.question), question_text(wanda)
        monkeypatch.setattr("workbench.recipe.CALIBRATION", 99)
        after = question_text(found.question), question_text(wanda)
        assert [one == other for one, other in zip(before, after, strict=True)] == [True, False]
        assert len(recall_all(session)) == 1


def test_a_history_that_cannot_be_written_does_not_stop_a_sweep(tmp_path: Path) -> None:
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        session.measure()
        session.history.close()
        job = measure_sensitivity(session, "quantize", values=[2], tolerance=0.05, keep=True)
        assert job.result().known
        assert job.trouble.startswith("The sweep is not being kept")


def test_a_killed_sweep_goes_on_from_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "h.sqlite"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 128:  # every cell is through two looks
                break
        process.send_signal(signal.SIGKILL)
    kept = History(path)
    (finding,) = [finding for key, _ in kept.subjects() for finding in kept.findings(key, KIND)]
    assert not finding.done
    kept.close()
    ran = runs(monkeypatch)
    with Session("lenet300", "fashion_mnist", history=str(path)) as session:
        (before,) = recall_all(session)
        assert before.n.min() >= 64
        found = measure_sensitivity(session, "quantize", values=LEVELS, keep=True).result()
        assert found.exact
        assert sum(ran) <= (found.total - before.n.min(1)).sum()
        plain = measure_sensitivity(session, "quantize", values=LEVELS).result()
        assert np.array_equal(found.value, plain.value)


def test_a_sweep_calibrated_on_other_images_is_not_taken_for_the_same(tmp_path: Path) -> None:
    data = load_dataset("fashion_mnist")
    few = replace(data, splits={**data.splits, "calibration": data["calibration"].take(torch.arange(8))})
    path = str(tmp_path / "h.sqlite")
    with Session("lenet300", data, history=path) as session:
        session.measure()
        for rounding in ("nearest", "gptq"):
            recipe = Recipe.parse(f"- quantize: {{bits: 8, rounding: {rounding}}}")
            measure_sensitivity(session, "quantize", values=[3], layers=["fc3"], recipe=recipe, keep=True).result()
    with Session("lenet300", few, history=path) as session:
        assert [found.question.settings.get("rounding") for found in recall_all(session)] == [None]
    with Session("lenet300", data, history=path) as session:
        assert len(recall_all(session)) == 2
