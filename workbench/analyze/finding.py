"""What a sweep asks and what it finds: an accuracy for every cell, and the other figures of the same runs.

*Only* this layer: it alone is compressed. *Others*: all but this layer are, which tells how much of a whole
recipe's loss goes away when the layer is spared. *Together*: the layers of a row at once, for interactions.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workbench.measure.estimate import Estimate
from workbench.measure.shares import Interval
from workbench.recipe import Recipe

Floats = NDArray[np.float64]
Mode = Literal["only", "others", "together"]

#: Figures beside the accuracy, measured in the same runs. ``agreement``: share of the images with the dense model's
#: answer. ``loss``: mean cross-entropy, nats. ``kl``: mean divergence of the probabilities from the dense model's,
#: KL(dense || compressed), nats. ``logit_mse``: mean squared change of a logit.
MEASURED = ("agreement", "loss", "kl", "logit_mse")
#: What each image's answers are kept as, to go on from: ``right`` and ``margin`` of the accuracy, and of the others.
ANSWERS = ("right", "margin", "agrees", "agree_margin", "loss", "kl", "logit_mse")


@dataclass(frozen=True)
class Question:
    """What a sweep asks: ``technique``'s ``setting`` at each of ``levels``, for each of ``layers``.

    ``settings`` are the technique's other settings, the same in every cell. ``groups`` names the layers that each
    row compresses, by default the row's own; in the mode ``others`` they are all of the model but that one.
    """

    technique: str
    setting: str
    levels: tuple[Any, ...]
    layers: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    mode: Mode = "only"
    groups: tuple[tuple[str, ...], ...] = ()

    def recipe(self, layer: str, level: Any) -> Recipe:
        """Return the recipe of one cell."""
        group = self.groups[self.layers.index(layer)] if self.groups else (layer,)
        settings = {**self.settings, self.setting: level, "layers": [glob.escape(name) for name in group]}
        return Recipe.parse([{self.technique: settings}])

    def fits(self, other: Question) -> bool:
        """Whether cells of the same row and level have the same recipe under ``other``."""
        mine, theirs = (
            (each.technique, each.setting, dict(each.settings), each.mode, each.groups) for each in (self, other)
        )
        return mine == theirs


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """The accuracy of every cell, as far as it is known.

    ``value``, ``low``, ``high`` ``(layers, levels)`` are shares, NaN where nothing is known yet; ``n``
    counts the images behind each, 0 where nothing is known, ``total`` where it is exact. The intervals
    hold at 95 % for each cell over all its looks. ``measured`` has the other figures of the same runs, by the
    names of ``MEASURED``; ``power`` is the mean square of the dense model's logits, which their error is put in
    relation to. ``answers`` are the images' own, kept to go on from. Where the images are not ``labelled``, what
    is told as accuracy is the agreement with the dense model, and there is no loss. ``order``: Spearman's correlation
    of the layers' order by their mean loss with that on all images, as nine draws of ten reach it (``ordering``), where
    that was asked for; ``places`` ``(layers, 3)``: each layer's place in that order, 1 for the most sensitive, and
    between which it lies in 95 % of the draws; ``allowance``: multiply-accumulates that all cells may take for it.
    """

    question: Question
    baseline: Estimate
    value: Floats
    low: Floats
    high: Floats
    n: NDArray[np.int64]
    measured: Mapping[str, Interval] = field(default_factory=dict)
    loss: float = np.nan
    power: float = np.nan
    answers: Answered | None = None
    labelled: bool = True
    order: float | None = None
    places: NDArray[np.int64] | None = None
    allowance: float = 0.0

    @classmethod
    def unknown(cls, question: Question, baseline: Estimate, labelled: bool = True) -> Sensitivity:
        """Return the sensitivity before anything was measured."""
        shape = len(question.layers), len(question.levels)
        value, low, high = (np.full(shape, np.nan) for _ in range(3))
        measured = {name: Interval(*(np.full(shape, np.nan) for _ in range(3))) for name in MEASURED}
        n = np.zeros(shape, np.int64)
        return cls(question, baseline, value, low, high, n, measured, labelled=labelled)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers' names, one for each row."""
        return self.question.layers

    @property
    def levels(self) -> tuple[Any, ...]:
        """The setting's values, one for each column."""
        return self.question.levels

    @property
    def total(self) -> int:
        """Images of the whole split."""
        return self.baseline.n

    @property
    def known(self) -> bool:
        """Whether every cell has a figure."""
        return bool((self.n > 0).all())

    @property
    def exact(self) -> bool:
        """Whether every cell was measured on the whole split."""
        return bool((self.n == self.total).all())

    @property
    def untouched(self) -> NDArray[np.bool_]:
        """Where the setting leaves the model as it is ``(layers, levels)``: a layer may lose no filter alone."""
        if not {"agreement", "kl"} <= self.measured.keys():
            return np.zeros(self.n.shape, np.bool_)
        agreement, kl = self.measured["agreement"].value, self.measured["kl"].value
        return np.asarray((self.n == self.total) & (agreement == 1.0) & (kl == 0.0))

    @property
    def lost(self) -> Floats:
        """The share of the images lost against the dense model, ``(layers, levels)``; negative where gained."""
        return self.baseline.value - self.value

    def refining(self, before: Sensitivity) -> Sensitivity:
        """Return this with the cells of ``before`` that rest on more images, if both ask the same."""
        if before.question != self.question or before.baseline != self.baseline:
            return self
        older = before.n > self.n
        value, low, high, n = (
            np.where(older, getattr(before, name), getattr(self, name)) for name in ("value", "low", "high", "n")
        )
        measured = {
            name: Interval(*(np.where(older, old, new) for old, new in zip(before.measured[name], mine, strict=True)))
            for name, mine in self.measured.items()
            if name in before.measured
        }
        power = self.power if np.isfinite(self.power) else before.power
        return replace(self, value=value, low=low, high=high, n=n, measured=measured, power=power)

    def copy(self) -> Sensitivity:
        """Return one whose figures stay as they are; the images' answers are shared."""
        figures = {name: getattr(self, name).copy() for name in ("value", "low", "high", "n")}
        measured = {name: Interval(*(part.copy() for part in entry)) for name, entry in self.measured.items()}
        return replace(self, **figures, measured=measured)

    def harm(self, metric: str = "drop") -> Interval:
        """Return what a metric of the runs says, ``(layers, levels)``, with intervals; the larger, the worse.

        ``drop``: accuracy lost, a share. ``disagreement``: share of other answers than the dense model's. ``loss``:
        rise of the cross-entropy, nats. ``kl``, ``logit_mse``: as measured. ``sqnr``: signal-to-quantization-noise
        ratio of the network's output with its sign turned, dB: mean square of the dense logits over that of their
        change. Raises ``KeyError`` for another name.
        """
        if metric == "drop":
            base = self.baseline.value
            return Interval(base - self.value, base - self.high, base - self.low)
        if metric == "disagreement":
            value, low, high = self.measured["agreement"]
            return Interval(1 - value, 1 - high, 1 - low)
        if metric == "loss":
            return Interval(*(part - self.loss for part in self.measured["loss"]))
        if metric == "sqnr":
            with np.errstate(divide="ignore", invalid="ignore"):
                return Interval(
                    *(10 * np.log10(np.maximum(part, 0) / self.power) for part in self.measured["logit_mse"])
                )
        return self.measured[metric]

    def ranking(self) -> NDArray[np.int64] | None:
        """Return each layer's place by its mean loss ``(layers, 3)``, lowest and highest (``places``); None if unknown.

        Where every image was run, all three are the same.
        """
        if not self.exact:
            return self.places
        place = np.argsort(np.argsort(-self.lost.mean(1), kind="stable")) + 1
        return np.stack([place] * 3, axis=1)

    def estimate(self, layer: str, level: Any) -> Estimate | None:
        """Return one cell's accuracy, None where it is not known yet."""
        return self._at(self.layers.index(layer), self.levels.index(level))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON: each layer's levels, accuracies, and its place in the order where it is known."""
        known = self.ranking()
        ranks: list[dict[str, int] | None] = [None] * len(self.layers)
        if known is not None:
            ranks = [dict(zip(("value", "low", "high"), row, strict=True)) for row in known.tolist()]
        return {
            "technique": self.question.technique,
            "setting": self.question.setting,
            "settings": dict(self.question.settings),
            "mode": self.question.mode,
            "labelled": self.labelled,
            "order": 1.0 if self.exact else self.order,
            "baseline": self.baseline.to_json(),
            "layers": [{**self._row(row, name), "rank": ranks[row]} for row, name in enumerate(self.layers)],
        }

    def _row(self, place: int, name: str) -> dict[str, Any]:
        columns = range(len(self.levels))
        found = {"accuracy": [self._at(place, column) if self.labelled else None for column in columns]}
        for metric, figures in self.measured.items():
            found[metric] = [self._of(figures, place, column) for column in columns]
        if "logit_mse" in self.measured:
            value, low, high = self.harm("sqnr")
            found["sqnr"] = [self._of(Interval(-value, -high, -low), place, column) for column in columns]
        data = {key: [each.to_json() if each else None for each in row] for key, row in found.items()}
        return {"name": name, "setting": list(self.levels), **data}

    def _at(self, row: int, column: int) -> Estimate | None:
        return self._of(Interval(self.value, self.low, self.high), row, column)

    def _of(self, figures: Interval, row: int, column: int) -> Estimate | None:
        n = int(self.n[row, column])
        value, low, high = (float(part[row, column]) for part in figures)
        if n == 0 or not np.isfinite(value):
            return None
        return Estimate(value, low, high, n, "exact" if n == self.total else "sampled", self.baseline.split)


@dataclass(frozen=True, eq=False)
class Answered:
    """What each image answered in each cell, ``(layers, levels, images)`` for each of ``ANSWERS``.

    Images are in the sampler's order, which ``order`` is a hash of; only a cell's first ``n`` are filled in.
    ``power`` ``(images,)``: the mean square of each image's dense logits.
    """

    order: str
    arrays: Mapping[str, NDArray[Any]]
    power: NDArray[np.float32]

    @classmethod
    def blank(cls, shape: tuple[int, int], images: int, order: str) -> Answered:
        """Return one with nothing filled in."""
        arrays: dict[str, NDArray[Any]] = {
            name: np.zeros((*shape, images), np.bool_ if name in ("right", "agrees") else np.float32)
            for name in ANSWERS
        }
        return cls(order, arrays, np.zeros(images, np.float32))
