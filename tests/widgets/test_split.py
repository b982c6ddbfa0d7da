"""Split inference: measured when asked for, priced anew without running anything, run for real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.widgets.conftest import wait_until
from widgets import SplitView
from workbench.jobs import Job
from workbench.recipe import Recipe
from workbench.session import Session

PRUNED = Recipe.parse("- prune: {ratio: 0.5}")


@pytest.fixture(scope="module")
def real() -> Iterator[Session]:
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        session.measure()
        yield session


@pytest.fixture(scope="module")
def measured(real: Session) -> Iterator[SplitView]:
    """Return a view that has measured the dense model's cuts."""
    view = SplitView(real)
    assert (view.plan, view.course, view.shown) == ({}, {}, {}), "nothing is measured before it is asked for"
    view._handle_custom_msg({"do": "start"}, [])
    wait_until(view, "plan", bool, 60)
    yield view
    view.close()


@pytest.fixture
def view(measured: SplitView, real: Session) -> SplitView:
    """Return it on the dense model."""
    real.measure(Recipe())
    wait_until(measured, "wanted", lambda wanted: wanted.get("recipe") == Recipe().hash and wanted["settled"])
    return measured


def test_every_cut_has_its_cost_and_another_link_only_prices_them_anew(
    view: SplitView, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = view.plan
    assert [plan["cuts"][0]["name"], plan["cuts"][-1]["name"]] == ["input", "logits"]
    for cut in plan["cuts"]:
        parts = cut["device_ms"] + cut["network_ms"] + cut["server_ms"]
        assert cut["total_ms"] == pytest.approx(parts, abs=1e-3)
    sending = plan["cuts"][1]
    assert 0 < sending["bytes"] < sending["raw_bytes"] / 4 + 8
    monkeypatch.setattr(view, "launch", lambda *_: pytest.fail("a link needs nothing measured"))
    view.set_state({"link": {"name": "own", "mbps": 0.1, "rtt_ms": 100}, "device": "this-machine"})
    assert view.plan["best"] == "logits", "over so slow a link nothing should be sent"
    other = view.plan["cuts"][1]
    assert other["network_ms"] == pytest.approx(100 + 8 * (sending["bytes"] + 9) / 100, rel=0.01)
    foretold = next(pace for pace in view.machines if pace["device"] == "raspberry-pi-4")
    assert foretold["low"] < foretold["slower"] < foretold["high"]
    assert other["device_ms"] == pytest.approx(sending["device_ms"] / foretold["slower"], rel=0.02, abs=1e-3)
    view.set_state({"slowdown": 10.0})
    assert view.plan["cuts"][1]["device_ms"] == pytest.approx(10 * other["device_ms"], rel=0.02, abs=1e-3)
    view.set_state({"link": {"name": "own", "mbps": "much"}})
    assert "megabits a second" in view.problem
    view.set_state({"link": {"name": "own", "mbps": 0, "rtt_ms": 1}})
    assert "must be positive" in view.problem
    view.set_state({"device": "toaster", "slowdown": None})
    assert "no device 'toaster'" in view.problem
    view.set_state({"link": {"name": "wifi"}, "device": "raspberry-pi-4"})
    assert view.problem == ""
    assert view.plan == plan
    assert view.save(tmp_path / "cuts.svg").stat().st_size > 3_000


def test_another_wish_ends_what_runs_and_prices_stay_those_of_what_was_measured(view: SplitView, real: Session) -> None:
    plan = view.plan
    view._handle_custom_msg({"do": "start"}, [])
    view.set_state({"bits": 4})
    assert view.course == {}
    assert view.wanted["wish"] == [4]
    view.set_state({"link": {"name": "own", "mbps": 1, "rtt_ms": 1}})
    assert view.plan["cuts"][1]["bytes"] == plan["cuts"][1]["bytes"], "what was measured was sent in 8 bits"
    view.set_state({"link": {"name": "wifi"}, "bits": 8})
    assert view.plan == plan


@pytest.mark.slow  # tests/deploy starts such a server in every run
def test_a_cut_is_run_as_two_processes(view: SplitView) -> None:
    cut = view.plan["cuts"][1]
    view._handle_custom_msg({"do": "run", "cut": cut["name"]}, [])
    trial = wait_until(view, "trial", bool, 60)
    assert trial["equal"]
    assert trial["bytes"] == pytest.approx(cut["bytes"], rel=0.1)
    view._handle_custom_msg({"do": "run", "cut": "nowhere"}, [])
    assert "cannot be cut at 'nowhere'" in wait_until(view, "problem", bool, 60)


def test_a_study_belongs_to_its_setting_and_a_move_ends_one_that_runs(
    view: SplitView, real: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never_done(_: Session, __: Recipe, job: Job[object]) -> object:
        while True:
            job.check()

    monkeypatch.setattr(view, "study", never_done)
    dense = view.plan
    view.set_state({"bits": 4})
    assert (view.wanted["wish"], view.shown["wish"]) == ([4], [8])
    view._handle_custom_msg({"do": "start"}, [])
    job = view._job
    assert job is not None
    real.measure(PRUNED)
    assert job.wait(60)
    wait_until(view, "wanted", lambda wanted: wanted["recipe"] == PRUNED.hash)
    assert (view.course, view.problem) == ({}, "")
    view.set_state({"bits": 8})
    assert view.shown["recipe"] == Recipe().hash, "what is shown says of which setting it is"
    assert view.plan == dense
