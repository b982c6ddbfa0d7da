"""Evaluating a whole split, in whatever order its images are run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from workbench.compression import compress_subject, context_for
from workbench.data.load import load_dataset
from workbench.evaluation import Evaluator
from workbench.measure.sampling import Sampler
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.session import Session
from workbench.subject import Subject


def test_as_many_are_right_in_any_order_as_the_labels_say() -> None:
    model, data = load_model("lenet300"), load_dataset("fashion_mnist")
    assert data.normalization is not None
    subject, split = Subject.of(model, data.image_shape), data["validation"].take(torch.arange(500))
    compressed = compress_subject(subject, Recipe.parse("- quantize: {bits: 3}"), context_for(model, data))
    evaluator = Evaluator(subject, split, data.normalization)
    answers = compressed.module(data.normalization(split.images)).argmax(1)
    wanted = int((answers == split.labels).sum())
    assert 0 < wanted < len(split)
    assert evaluator.correct(evaluator.free_runner(compressed)) == wanted
    evaluator.set_order(np.random.default_rng(0).permutation(len(split)))
    assert evaluator.correct(evaluator.free_runner(compressed)) == wanted


def test_counting_ends_where_the_check_says_so() -> None:
    model, data = load_model("lenet300"), load_dataset("fashion_mnist")
    assert data.normalization is not None
    subject = Subject.of(model, data.image_shape)
    evaluator = Evaluator(subject, data["validation"], data.normalization)
    compressed = compress_subject(subject, Recipe(), context_for(model, data))

    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluator.correct(evaluator.free_runner(compressed), check)


def test_no_batch_is_run_before_the_check_lets_it() -> None:
    model, data = load_model("lenet300"), load_dataset("fashion_mnist")
    assert data.normalization is not None
    subject, split = Subject.of(model, data.image_shape), data["validation"].take(torch.arange(400))
    evaluator = Evaluator(subject, split, data.normalization)
    compressed = compress_subject(subject, Recipe(), context_for(model, data))
    runner = evaluator.free_runner(compressed)
    done: list[str] = []
    run = runner.logits

    def logits(images: Tensor) -> NDArray[np.float32]:
        done.append("run")
        return run(images)

    runner.logits = logits  # type: ignore[method-assign]
    whole = np.concatenate(list(evaluator.batches(runner)))
    sampler = Sampler(whole, split.labels.numpy())
    done.clear()
    for _ in evaluator.looks(runner, sampler, lambda: done.append("check")):
        done.append("look")
    assert done[:5] == ["check", "run", "look", "check", "run"]
    assert done.count("check") == done.count("run")


def test_images_prepared_before_the_order_is_known_are_not_taken_for_those_after() -> None:
    model, data = load_model("lenet300"), load_dataset("fashion_mnist")
    assert data.normalization is not None
    split, order = data["validation"].take(torch.arange(100)), np.arange(100)[::-1].copy()
    evaluator = Evaluator(Subject.of(model, data.image_shape), split, data.normalization)
    late: list[Tensor] = []

    def normalize_and_be_overtaken(images: Tensor) -> Tensor:
        if not late:
            late.append(images)
            evaluator.set_order(order)  # by another thread, while this one normalises in the order that there was
        assert data.normalization is not None
        return data.normalization(images)

    evaluator._normalize = normalize_and_be_overtaken  # type: ignore[assignment]
    evaluator.images(0, 1)
    assert torch.equal(evaluator.images(0, 1), data.normalization(split.images[99:]))


class Dropping(nn.Module):
    """Dropout whether it is trained or not, where ``rate`` is more than 0."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.fc, self.rate = nn.Linear(64, 3), rate

    def forward(self, x: Tensor) -> Tensor:
        dropped = functional.dropout(x.flatten(1), self.rate) if self.rate else x.flatten(1)
        return self.fc(dropped.sort(1).values)


@pytest.mark.parametrize("rate", [0.5, 0.0])
def test_answers_that_differ_each_time_are_not_told_as_exact_without_a_word(rate: float) -> None:
    images, labels = torch.randint(0, 255, (60, 1, 8, 8), dtype=torch.uint8), torch.arange(60) % 3
    with Session(Dropping(rate).eval(), (images, labels), history=":memory:") as session:
        told = [note for note in session.measure(Recipe()).notes if "differently each time" in note]
    assert len(told) == (rate > 0)
