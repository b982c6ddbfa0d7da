"""Fusion and pipeline in the page: found out when asked for, of the setting shown, in messages that stay small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.widgets.conftest import wait_until
from widgets import FusionView, PipelineView
from widgets.fusion import view as fusion_view
from workbench.deploy.pipeline.run import usable_cores
from workbench.session import Session


@pytest.fixture(scope="module")
def real() -> Iterator[Session]:
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        session.measure()
        yield session


@pytest.mark.parametrize("seconds", [0.0, pytest.param(0.2, marks=pytest.mark.slow)])
def test_each_runtime_tells_its_fusions_and_what_they_save(
    real: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(fusion_view, "SECONDS", seconds)
    view = FusionView(real)
    assert view.found == {}
    view._handle_custom_msg({"do": "start"}, [])
    found = wait_until(view, "found", bool, 60)
    assert view.shown["recipe"] == real.recipe.hash
    assert set(found) == set(view.runtimes) >= {"onnxruntime"}
    one = found["onnxruntime"]
    for when in ("before", "after"):
        assert sum(one["counts"][when].values()) == len(one[when])
    assert any("Relu" in pattern for pattern in one["patterns"])
    held = sorted(place for _, _, holds in one["after"] for place in holds)
    assert held == sorted(set(held)), "an operator is in one kernel only"
    assert (one["ratio"] is not None) == (seconds > 0)
    assert len(json.dumps(found)) < 10_000
    assert view.save(tmp_path / "fusion.svg").stat().st_size > 3_000
    view.close()


@pytest.mark.slow
def test_a_pipeline_is_run_beside_one_process_and_more_are_foretold(real: Session, tmp_path: Path) -> None:
    view = PipelineView(real, microbatch=8)
    assert view.cores == len(usable_cores())
    view._handle_custom_msg({"do": "start"}, [])
    found = wait_until(view, "found", bool, 240)
    assert view.problem == ""
    assert found["equal"]
    assert len(found["stage_ms"]) == len(found["pipeline"]["stages"]) == 2
    assert found["forecast"][0]["stages"] == 2
    assert view.save(tmp_path / "speedups.svg").stat().st_size > 3_000
    view.stages = 3
    assert view.wanted["wish"] != view.shown["wish"], "what is shown is of two processes"
    view.close()


def test_more_processes_than_cores_are_refused_with_a_sentence(real: Session) -> None:
    view = PipelineView(real, stages=min(8, len(usable_cores()) + 1), microbatch=1)
    if view.stages <= len(usable_cores()):
        pytest.skip("this machine has more cores than a pipeline takes")
    view._handle_custom_msg({"do": "start"}, [])
    assert "need" in wait_until(view, "problem", bool, 120)
    view.close()
