"""What the training benches share: train a recipe, measure it on the test split, keep the record.

Choices (of a ratio, of the best epoch) are made on the validation split; the test split is read for the figure
that is reported, and for nothing else. Records are JSON files in ``tests/bench/records``, one a bench, rewritten
whenever a run ends: what is in them can be traced to recipe, seed and seconds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench.compression import compress_subject, context_for
from workbench.data.dataset import Dataset
from workbench.evaluation import Evaluator
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.train.job import train

RECORDS = Path(__file__).parent / "records"


@dataclass(frozen=True)
class Run:
    """One trained recipe: accuracies in per cent, the file's bytes, and what training took."""

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
        """Points lost on the test split."""
        return self.dense - self.test


class Bench:
    """One model on one dataset."""

    def __init__(self, model: Model | str, data: Dataset) -> None:
        self.model = load_model(model)
        self.data = data
        self._subject = Subject.of(self.model, data.image_shape)
        self._normalization = self.model.normalization or data.normalization
        self._evaluators: dict[str, Evaluator] = {}
        self.dense = {split: self.accuracy(Recipe(), split) for split in ("validation", "test")}

    def run(self, label: str, recipe: Recipe | str, seed: int = 0) -> Run:
        """Train ``recipe`` where it has not been, with ``seed`` in all its trained steps, and measure it."""
        recipe = with_seed(Recipe.parse(recipe) if isinstance(recipe, str) else recipe, seed)
        seconds = 0.0
        if any("seed" in fields and "epochs" in fields for step in recipe.to_data() for fields in step.values()):
            seconds = train(self.model, self.data, recipe).result().seconds
        compressed = compress_subject(self._subject, recipe, context_for(self.model, self.data))
        return Run(
            self.model.name, label, recipe.to_data(), seed, self.dense["test"], self.accuracy(recipe, "validation"),
            self.accuracy(recipe, "test"), compressed.nbytes, self._subject.dense_fp32_bytes / compressed.nbytes,
            seconds,
        )  # fmt: skip

    def accuracy(self, recipe: Recipe, split: str) -> float:
        """Return the accuracy on a split, in per cent."""
        if split not in self._evaluators:
            self._evaluators[split] = Evaluator(self._subject, self.data[split], self._normalization)
        evaluator = self._evaluators[split]
        compressed = compress_subject(self._subject, recipe, context_for(self.model, self.data))
        runner, right, seen = evaluator.free_runner(compressed), 0, 0
        for logits in evaluator.batches(runner):
            labels = self.data[split].labels[seen : seen + len(logits)].numpy()
            right, seen = right + int((logits.argmax(1) == labels).sum()), seen + len(logits)
        return 100 * right / seen


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe with ``seed`` in every step that has epochs."""
    steps = []
    for step, data in zip(recipe.steps, recipe.to_data(), strict=True):
        fields = dict(data[step.technique])
        if hasattr(step.settings, "epochs"):
            fields |= {"seed": seed, "epochs": step.settings.epochs}
        steps.append({step.technique: fields})
    return Recipe.parse(steps)


def keep(bench: str, runs: list[Run], **more: Any) -> Path:
    """Write the record of a bench; return its path."""
    import platform

    import torch

    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{bench}.json"
    about = {"command": f"python -m tests.bench.{bench}", "torch": torch.__version__, "machine": platform.machine()}
    path.write_text(json.dumps({**about, **more, "runs": [asdict(run) for run in runs]}, indent=1) + "\n")
    return path


def tell(run: Run) -> None:
    """Print one line."""
    print(
        f"{run.model:9} {run.label:34} seed {run.seed}  {run.bytes:>9,} bytes {run.ratio:6.1f}×  "
        f"{run.dense:.2f} → {run.test:.2f} %  {run.lost:+.2f} points lost  ({run.seconds:.0f} s of training)",
        flush=True,
    )
