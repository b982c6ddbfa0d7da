from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.widgets.conftest import wait_until
from widgets.behaviour.view import PARTS, BehaviourView
from widgets.scoreboard.view import ScoreboardView
from workbench.analyze.behaviour import logits_of
from workbench.analyze.compare import judge_classes
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.session import Session

HARSH = Recipe.parse("- prune: {ratio: 0.9}\n- quantize: {bits: 2}")
MILD = Recipe.parse("- quantize: {bits: 8}")


@pytest.fixture(scope="module")
def real() -> Iterator[Session]:
    with Session("lenet5", "fashion_mnist", history=":memory:") as session:
        session.measure(MILD)
        session.measure(HARSH)
        yield session


@pytest.fixture
def view(real: Session) -> Iterator[BehaviourView]:
    real.measure(HARSH)
    view = BehaviourView(real)
    yield view
    view.close()


def find(view: BehaviourView, part: str) -> dict[str, Any]:
    """Return what is found of a part once it is whole."""
    view.part = part
    wait_until(view, "course", lambda course: course.get("state") == "done" and view.shown["part"] == part, 60)
    return view.found


def test_the_harm_line_names_the_classes_that_the_test_names_and_not_those_of_another_recipe(real: Session) -> None:
    board = ScoreboardView(real)
    report = judge_classes(real, HARSH)
    real.apply(HARSH)
    harm = wait_until(board, "harm", lambda harm: harm.get("recipe") == HARSH.hash)
    assert [entry["name"] for entry in harm["hurt"]] == [row.name for row in report.hurt]
    assert harm["hurt"]
    assert harm["hurt"][0]["low"] < harm["hurt"][0]["value"] < harm["hurt"][0]["high"] < 0
    real.apply(Recipe())
    assert wait_until(board, "harm", lambda harm: harm.get("recipe") == Recipe().hash) == {"recipe": Recipe().hash}
    board.close()


def test_classes_confusion_and_confidence_are_those_of_the_engine(real: Session, view: BehaviourView) -> None:
    rows = find(view, "classes")["rows"]
    report = judge_classes(real, HARSH)
    assert [row["hurt"] for row in rows] == [row.hurt for row in report.rows]
    assert [row["after"][0] for row in rows] == [round(row.after.value, 5) for row in report.rows]
    found = find(view, "confusion")
    before, after = np.array(found["before"]), np.array(found["after"])
    assert before.sum() == after.sum() == len(real.split)
    answers = real.answers(HARSH)
    assert answers is not None
    assert np.trace(after) == (answers == real.split.labels.numpy()).sum()
    truth, answer, was, now = found["told"][0]
    assert (before[truth, answer], after[truth, answer]) == (was, now)
    assert find(view, "calibration")["after"]["error"] > 0


def test_drift_and_attribution_follow_the_image_and_the_method(real: Session, view: BehaviourView) -> None:
    assert [row["name"] for row in find(view, "drift")["rows"]] == [layer.name for layer in real.layers]
    found = find(view, "attribution")
    assert found["image"] == view.picks[0]
    assert found["answers"][0] == found["label"] != found["answers"][1]  # a lost image comes first
    first = view.maps
    view.set_state({"method": "gradcam"})
    wait_until(view, "found", lambda found: found.get("method") == "gradcam")
    assert view.maps != first
    view.set_state({"image": view.picks[1]})
    assert wait_until(view, "found", lambda found: found.get("image") == view.picks[1])["method"] == "gradcam"


def test_corruptions_wait_for_a_click_and_are_kept(
    real: Session, view: BehaviourView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.analyze.behaviour.CORRUPTED", 64)
    view.part = "corruptions"
    assert view.course == {"state": "ask"}
    view.receive({"do": "start"}, [])
    view.draw(real.snapshot)  # as when a latency was refreshed: what runs goes on
    wait_until(view, "course", lambda course: course.get("state") == "done", 60)
    assert len(view.found["rows"]) == 13
    view.part = "classes"
    view.part = "corruptions"
    assert view.course == {"state": "done"}
    assert len(view.found["rows"]) == 13


def test_another_measured_setting_can_be_compared_with(real: Session, view: BehaviourView) -> None:
    find(view, "classes")
    offer = next(offer for offer in view.offers if offer["hash"] == MILD.hash)
    assert offer["text"].startswith("8 bit (")
    view.set_state({"against": MILD.hash})
    wait_until(view, "shown", lambda shown: shown["against"] == MILD.hash)
    report = judge_classes(real, HARSH, MILD)
    assert [row["lost"] for row in view.found["rows"]] == [row.lost for row in report.rows]


def test_a_hidden_view_computes_nothing(real: Session) -> None:
    view = BehaviourView(real, visible=False)
    real.measure(HARSH)
    assert view.wait(0)
    assert view.found == {}
    view.set_state({"visible": True})
    assert find(view, "classes")["rows"]
    view.close()


def test_logits_that_are_no_longer_known_are_run_again(real: Session) -> None:
    known = real.logits(HARSH)
    assert known is not None
    real._engine._remembered._logits.clear()
    shares: list[float] = []
    assert np.allclose(logits_of(real, HARSH, follow=shares.append), known, atol=1e-4)
    assert shares[-1] == 1
    assert real.logits(HARSH) is not None


@pytest.mark.parametrize("part", [part for part in PARTS if part != "corruptions"])
def test_each_part_is_a_figure_that_can_be_saved(view: BehaviourView, part: str, tmp_path: Path) -> None:
    find(view, part)
    assert view.save(tmp_path / "figure.svg").stat().st_size > 3_000


def test_without_anything_found_there_is_no_figure(real: Session) -> None:
    view = BehaviourView(real, visible=False)
    with pytest.raises(WorkbenchError, match="nothing to draw yet"):
        view.figure()
    view.close()


def test_teacher_and_student_are_compared_on_all_images_and_class_by_class(real: Session, view: BehaviourView) -> None:
    found = find(view, "teacher")
    assert found["teacher"] == "the dense model"
    assert found["all"]["agree_before"][0] == 1
    assert found["all"]["agree_after"][0] == pytest.approx(
        float((logits_of(real, Recipe()).argmax(1) == logits_of(real, HARSH).argmax(1)).mean()), abs=1e-4
    )
    assert len(found["rows"]) == 10
    assert found["sentence"].startswith("The student gives the dense model's answer on")
