"""How much accuracy each layer costs when it alone is compressed, level by level.

A sweep asks one question of every layer: with all others left dense, what is the accuracy at each level of
one setting? It shows which layers bear compression and which don't, and the surrogate foresees whole
recipes from it. ``measure_sensitivity`` starts the sweep as a Job in the background; how it is run
quickly is told in ``sweep``.

Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets" (figure 2); Han et al. 2015 (figure 6).
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.editing import step_of
from workbench.errors import WorkbenchError
from workbench.measure.estimate import Estimate
from workbench.recipe import Recipe
from workbench.techniques import TECHNIQUES

if TYPE_CHECKING:
    from workbench.session import Session

    from .sweep import SensitivityJob

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Question:
    """What a sweep asks: ``technique``'s ``setting`` at each of ``levels``, for each of ``layers`` alone.

    ``settings`` are the technique's other settings, the same in every cell.
    """

    technique: str
    setting: str
    levels: tuple[Any, ...]
    layers: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def recipe(self, layer: str, level: Any) -> Recipe:
        """Return the recipe of one cell."""
        settings = {**self.settings, self.setting: level, "layers": [glob.escape(layer)]}
        return Recipe.parse([{self.technique: settings}])


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """The accuracy of every cell, as far as it is known.

    ``value``, ``low``, ``high`` ``(layers, levels)`` are shares, NaN where nothing is known yet; ``n``
    counts the images behind each, 0 where nothing is known, ``total`` where it is exact. The intervals
    hold at 95 % for each cell over all its looks.
    """

    question: Question
    baseline: Estimate
    value: Floats
    low: Floats
    high: Floats
    n: NDArray[np.int64]

    @classmethod
    def unknown(cls, question: Question, baseline: Estimate) -> Sensitivity:
        """Return the sensitivity before anything was measured."""
        shape = len(question.layers), len(question.levels)
        value, low, high = (np.full(shape, np.nan) for _ in range(3))
        return cls(question, baseline, value, low, high, np.zeros(shape, np.int64))

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
        return replace(self, value=value, low=low, high=high, n=n)

    def estimate(self, layer: str, level: Any) -> Estimate | None:
        """Return one cell's accuracy, None where it is not known yet."""
        return self._at(self.layers.index(layer), self.levels.index(level))

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON: each layer's levels and accuracies."""
        return {
            "technique": self.question.technique,
            "setting": self.question.setting,
            "settings": dict(self.question.settings),
            "baseline": self.baseline.to_json(),
            "layers": [self._row(place, name) for place, name in enumerate(self.layers)],
        }

    def _row(self, place: int, name: str) -> dict[str, Any]:
        found = [self._at(place, column) for column in range(len(self.levels))]
        accuracy = [estimate.to_json() if estimate else None for estimate in found]
        return {"name": name, "setting": list(self.levels), "accuracy": accuracy}

    def _at(self, row: int, column: int) -> Estimate | None:
        n = int(self.n[row, column])
        if n == 0:
            return None
        value, low, high = (float(figures[row, column]) for figures in (self.value, self.low, self.high))
        return Estimate(value, low, high, n, "exact" if n == self.total else "sampled", self.baseline.split)


def measure_sensitivity(
    session: Session,
    technique: str = "prune",
    *,
    setting: str | None = None,
    values: Sequence[Any] | None = None,
    layers: Iterable[str] | None = None,
    tolerance: float | None = None,
    recipe: Recipe | None = None,
) -> SensitivityJob:
    """Start measuring how sensitive each layer is, and return the Job.

    Args:
        session: Whose model and split are used.
        technique: What each layer is compressed by.
        setting: The setting to vary; the technique's dial (``ratio``, ``bits``) unless said.
        values: Its levels, from mild to harsh; the dial's unless said.
        layers: Names or glob patterns; all layers unless said.
        tolerance: Stop a cell once its accuracy is known to ± so much (a share), or to ± a tenth of what it
            lost where that is more. Every image is run where it is None.
        recipe: Whose other settings of ``technique`` (such as the grid's scheme) are used; the session's
            present one unless said.

    Raises:
        WorkbenchError: an unknown technique, setting, layer or value.

    >>> from workbench.session import Session
    >>> with Session("lenet300", "fashion_mnist", history=":memory:") as session:
    ...     found = measure_sensitivity(session, "quantize", values=[8, 1], tolerance=0.02).result()
    >>> found.layers, found.levels, bool((found.lost[:, 0] < 0.03).all()), bool(found.lost[0, 1] > 0.1)
    (('fc1', 'fc2', 'fc3'), (8, 1), True, True)
    """
    from .sweep import SensitivityJob

    if tolerance is not None and not tolerance > 0:
        raise WorkbenchError(f"The tolerance is {tolerance:g}, but it should be above 0.")
    dial, levels = _what_to_vary(technique, setting, values)
    chosen = _chosen(session, layers)
    shared = shared_settings(session.recipe if recipe is None else recipe, technique, dial)
    question = Question(technique, dial, levels, chosen, shared)
    for level in levels:
        question.recipe(chosen[0], level)  # a value that the technique refuses is said before anything runs
    return SensitivityJob(session, question, tolerance)


def _what_to_vary(technique: str, setting: str | None, values: Sequence[Any] | None) -> tuple[str, tuple[Any, ...]]:
    """Return the setting to vary and its levels."""
    if technique not in TECHNIQUES:
        raise WorkbenchError(f"There is no technique '{technique}'; there is {', '.join(TECHNIQUES)}.")
    dial = TECHNIQUES[technique].dial
    setting = setting or (dial.setting if dial else None)
    if setting is None:
        raise WorkbenchError(f"'{technique}' has no setting that stands for how hard it compresses: name one.")
    if values is None and (dial is None or setting != dial.setting):
        raise WorkbenchError(f"Which values of '{setting}' are to be tried? There is no usual choice.")
    levels = tuple(dict.fromkeys(values if values is not None else dial.levels if dial else ()))
    if not levels:
        raise WorkbenchError("At least one value is needed.")
    return setting, levels


def shared_settings(recipe: Recipe, technique: str, setting: str) -> dict[str, Any]:
    """Return the settings, beside ``setting``, that the cells take over from a person's ``recipe``.

    Those that are optional are left out (a threshold, quantized activations): they would act beside the
    setting that is varied.
    """
    definition, step = TECHNIQUES[technique], step_of(recipe, technique)
    given = step.settings.model_dump(mode="json", exclude_unset=True) if step else {}
    fields = definition.settings.model_fields
    kept = {
        name: value
        for name, value in given.items()
        if name != setting and fields[name].default is not None and value != fields[name].default
    }
    dial = definition.dial
    if dial is None or setting != dial.setting:
        return {name: value for name, value in kept.items() if dial is None or name != dial.setting}
    return {**kept, **{name: aim for name, aim in dial.alone.items() if aim is not None}}


def _chosen(session: Session, patterns: Iterable[str] | None) -> tuple[str, ...]:
    names = tuple(layer.name for layer in session.layers)
    if patterns is None:
        return names
    wanted = tuple(patterns)
    for pattern in wanted:
        if not any(name == pattern or fnmatchcase(name, pattern) for name in names):
            raise WorkbenchError(f"'{pattern}' matches no layer; the first ones are {', '.join(names[:6])}.")
    chosen = tuple(name for name in names if any(name == wish or fnmatchcase(name, wish) for wish in wanted))
    if not chosen:
        raise WorkbenchError("At least one layer is needed.")
    return chosen
