"""What the training benches share: train a recipe, measure it on the test split, tell of differences.

Choices (of a ratio, of the best epoch) are made on the validation split; the test split is read for the figure
that is reported, and for nothing else.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

import torch

from workbench.compressed import CompressedModel
from workbench.compression import compress_subject, context_for
from workbench.data.dataset import Dataset
from workbench.evaluation import Evaluator
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques import Cost
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within

#: Student's 97.5 % quantile by degrees of freedom.
QUANTILES = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


@dataclass(frozen=True)
class Run:
    """One trained recipe: accuracies in per cent, the file's bytes, and the seconds training took, whenever it was."""

    model: str
    label: str
    recipe: list[Any]
    seed: int
    dense: float
    validation: float
    test: float
    bytes: int
    ratio: float
    seconds: float

    @property
    def lost(self) -> float:
        """Points lost on the test split; 30 images of 10,000 are 0.3 points, not a little more."""
        return round(self.dense - self.test, 6)


class Bench:
    """One model on one dataset; it is trained in this process, on one core, which saves starting dozens of others."""

    def __init__(self, model: Model | str, data: Dataset) -> None:
        torch.set_num_threads(1)
        self.model = load_model(model)
        self.data = data
        self._subject = Subject.of(self.model, data.image_shape)
        self._normalization = self.model.normalization or data.normalization
        self._evaluators: dict[str, Evaluator] = {}
        self.dense = {split: self.accuracy(Recipe(), split) for split in ("validation", "test")}

    def learning_from(self, data: Dataset) -> Bench:
        """Return a bench that trains and calibrates on ``data`` instead, and judges on the same images as this one."""
        other = copy(self)
        other.data = data
        return other

    def run(self, label: str, recipe: Recipe | str, seed: int = 0) -> Run:
        """Train ``recipe`` where it has not been, with ``seed`` in all its trained steps, and measure it."""
        recipe = with_seed(Recipe.parse(recipe) if isinstance(recipe, str) else recipe, seed)
        seconds = self._train(recipe)
        compressed = self._compress(recipe)
        return Run(
            self.model.name, label, recipe.to_data(), seed, self.dense["test"], self._judge(compressed, "validation"),
            self._judge(compressed, "test"), compressed.nbytes, self._subject.dense_fp32_bytes / compressed.nbytes,
            seconds,
        )  # fmt: skip

    def _train(self, recipe: Recipe) -> float:
        """Train step by step what was not; return the seconds of all steps, of earlier and broken-off runs too."""
        ends = [place + 1 for place, step in enumerate(recipe.steps) if step.cost is Cost.TRAINED]
        jobs = (train(self.model, self.data, Recipe(recipe.steps[:end]), place=Within()) for end in ends)
        return sum(job.result().took for job in jobs)

    def accuracy(self, recipe: Recipe, split: str) -> float:
        """Return the accuracy on a split, in per cent."""
        return self._judge(self._compress(recipe), split)

    def _compress(self, recipe: Recipe) -> CompressedModel:
        return compress_subject(self._subject, recipe, context_for(self.model, self.data))

    def _judge(self, compressed: CompressedModel, split: str) -> float:
        if split not in self._evaluators:
            self._evaluators[split] = Evaluator(self._subject, self.data[split], self._normalization)
        evaluator = self._evaluators[split]
        return 100 * evaluator.correct(evaluator.free_runner(compressed)) / len(self.data[split])


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe with ``seed`` in every step that has epochs."""
    steps = []
    for step, data in zip(recipe.steps, recipe.to_data(), strict=True):
        fields = dict(data[step.technique])
        if hasattr(step.settings, "epochs"):
            fields |= {"seed": seed, "epochs": step.settings.epochs}
        steps.append({step.technique: fields})
    return Recipe.parse(steps)


def interval(differences: list[float]) -> tuple[float, float, float]:
    """Return the mean of paired differences and the ends of its 95 % interval (Student)."""
    middle = mean(differences)
    half = QUANTILES[len(differences) - 1] * stdev(differences) / math.sqrt(len(differences))
    return middle, middle - half, middle + half


def spread(values: list[float], places: int = 2) -> str:
    """Return the lowest and the highest of ``values`` in words, once where they are alike."""
    low, high = (f"{value:.{places}f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def tell(run: Run) -> None:
    """Print one line."""
    print(
        f"{run.model:9} {run.label:34} seed {run.seed}  {run.bytes:>9,} bytes {run.ratio:6.1f}×  "
        f"{run.dense:.2f} → {run.test:.2f} %  {run.lost:+.2f} points lost  ({run.seconds:.0f} s of training)",
        flush=True,
    )
