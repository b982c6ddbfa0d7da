"""Teacher and student are compared on the same images, whoever the teacher was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from workbench.analyze.behaviour import Pair, logits_of
from workbench.analyze.teacher import compare_with_teacher, teacher_name
from workbench.data.dataset import UNLABELLED
from workbench.data.load import load_dataset
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.session import Session

HARSH = Recipe.parse("- prune: {ratio: 0.9}\n- quantize: {bits: 2}")


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    data = load_dataset("fashion_mnist")
    few = {name: split.take(torch.arange(400)) for name, split in data.splits.items()}
    with Session("lenet300", replace(data, splits=few), history=":memory:") as session:
        session.measure(HARSH)
        yield session


def test_the_dense_model_teaches_where_nobody_else_did(session: Session) -> None:
    report = Pair(session, Recipe(), HARSH).teacher()
    assert report.name == "the dense model"
    assert report.overall.agree_before.value == 1.0
    dense, harsh = (logits_of(session, recipe).argmax(1) for recipe in (Recipe(), HARSH))
    assert report.overall.agree_after.value == pytest.approx(float((dense == harsh).mean()))
    assert report.divergence[0] == pytest.approx(0, abs=1e-6)
    assert report.divergence[1] > 0.05
    labels = session.split.labels.numpy()
    assert report.overall.only_teacher == int(((dense == labels) & (harsh != labels)).sum())
    assert sum(row.teacher.n for row in report.rows) == 400
    assert report.overall.agree_after.low < report.overall.agree_after.value < report.overall.agree_after.high


def test_another_model_that_taught_is_run_itself(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    taught = Recipe.parse([*HARSH.to_data(), {"distill": {"teacher": "lenet5"}}])
    assert teacher_name(session, taught) == "lenet5"
    assert teacher_name(session, Recipe.parse([{"distill": {"teacher": "itself"}}])) is None
    monkeypatch.setattr("workbench.analyze.teacher.teacher_name", lambda *_: "lenet5")
    shares: list[float] = []
    report = compare_with_teacher(session, Recipe(), HARSH, lambda: None, shares.append)
    assert report.name == "lenet5"
    with torch.inference_mode():
        answers = load_model("lenet5").module(session.normalization(session.split.images)).argmax(1).numpy()
    assert report.overall.teacher.value == pytest.approx(float((answers == session.split.labels.numpy()).mean()))
    assert shares[-1] == 1
    assert "The student gives lenet5's answer on" in report.sentence()


def test_a_model_that_was_made_here_remembers_its_teacher(session: Session) -> None:
    made = replace(session.model, card={"recipe": [{"distill": {"teacher": "resnet20"}}]})
    with Session(made, session.data, history=":memory:") as other:
        assert teacher_name(other, HARSH) == "resnet20"


def test_without_labels_nobody_is_said_to_be_right(session: Session) -> None:
    few = session.split.take(torch.arange(100))
    unlabelled = replace(few, labels=torch.full_like(few.labels, UNLABELLED))
    data = replace(session.data, splits={"test": unlabelled})
    with Session("lenet300", data, history=":memory:") as opened:
        opened.measure(HARSH)
        report = Pair(opened, Recipe(), HARSH).teacher()
    assert "who is right where they differ is not known" in report.sentence()
    assert (report.overall.teacher, report.overall.only_teacher) == (None, None)
    assert sum(row.agree_after.n for row in report.rows) == 100
