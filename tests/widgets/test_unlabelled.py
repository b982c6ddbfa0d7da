"""A page on images without labels tells agreement, calls it so, and draws no figure that needs labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import workbench as wb
from tests.widgets.conftest import wait_until
from widgets import AllocationView, ExamplesView, ScoreboardView, SensitivityView, TradeoffView
from widgets.behaviour.parts import teacher_rows
from workbench.analyze.behaviour import Pair
from workbench.session import Session


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    images = wb.load_dataset("fashion_mnist")["test"].images[:300].numpy()
    with Session("lenet300", wb.load_dataset(images), history=":memory:") as opened:
        opened.measure()
        yield opened


def test_the_first_card_is_the_agreement(session: Session) -> None:
    view = ScoreboardView(session)
    session.measure("- quantize: {bits: 2}")
    wait_until(view, "accuracy", lambda figure: bool(figure) and figure["kind"] == "exact" and figure["value"] < 1)
    assert view.accuracy["metric"] == "agreement"
    assert view.baseline["accuracy"]["value"] == 1
    assert view.figure().axes
    view.close()


def test_settings_are_drawn_by_their_agreement(session: Session) -> None:
    view = TradeoffView(session)
    assert not view.labelled
    session.measure("- quantize: {bits: 3}")
    agreement = session.snapshot.agreement
    assert agreement is not None

    def shows(sent: bytes) -> bool:
        return bool(sent) and bool(np.frombuffer(sent, np.float32)[1] == pytest.approx(agreement.value, abs=1e-4))

    wait_until(view, "present", shows)
    view.close()


def test_other_views_say_what_they_can(session: Session) -> None:
    sensitivity, examples, allocation = SensitivityView(session), ExamplesView(session), AllocationView(session)
    assert dict(sensitivity.metrics)["drop"] == "Agreement lost"
    assert "loss" not in dict(sensitivity.metrics)
    session.measure("- quantize: {bits: 2}")
    wait_until(examples, "about", lambda about: about.get("settled"))
    assert examples.about["labelled"] is False
    wait_until(allocation, "dense", bool)
    assert allocation.dense["judged"] == "agreement"
    for view in (sensitivity, examples, allocation):
        view.close()


def test_teacher_and_student_are_compared_by_their_answers_alone(session: Session) -> None:
    recipe = wb.Recipe.parse("- quantize: {bits: 2}")
    session.measure(recipe)
    found = teacher_rows(Pair(session, wb.Recipe(), recipe).teacher())
    assert (found["all"]["teacher"], found["all"]["only_student"]) == (None, None)
    assert sum(row["agree_after"][3] for row in found["rows"]) == len(session.split)
