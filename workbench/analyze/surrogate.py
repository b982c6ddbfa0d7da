"""Foreseeing a recipe's accuracy from how sensitive each layer is, before any image is run.

*Prediction.* Each layer's loss is read off its own curve: pruning by the share of its weights that is gone,
another technique by its dial. What is left of the accuracy above chance is multiplied over the layers and
techniques. A curve is made monotone first (isotonic regression, weighted by the images behind each point),
so that noise between two points does not decide which recipe looks better.

*Interval.* The prediction's own past errors, on recipes of this model that were measured since or are in the
history, each divided by ``NEAR`` + the loss foreseen: errors grow with the loss. Half the interval is their
95 % quantile with the conformal correction for few (Vovk et al. 2005) times that of the recipe at hand. With
fewer than 19 errors there is no such quantile: then it is ± 7.6 points, or the worst error so far.

*Choice.* Measured on 60 recipes each, with weights pruned, in fewer bits, or both, for all layers alike or each its
own, from sweeps to ± 0.5 points. Rank correlation with the true accuracy, and mean error in points over recipes
that lose less than 10: LeNet-5: product 0.92, 0.23; sum of losses 0.92, 0.23; product without monotone curves 0.78,
0.35. ResNet-20: 0.95, 0.62; 0.95, 0.63; 0.95, 0.64. Over all of ResNet-20's recipes the product errs by 2.4 points,
the sum by 2.6, the worst by more than 20: where a network collapses, none is near. Of the 41 recipes after the first
19, asked in turn, the interval held 40 on either model; its median half was 1.0 points on LeNet-5, 5.9 on ResNet-20.

What was not swept is not foreseen: channels removed, activations quantized, BatchNorm recalibrated, another
grid than the sweep's.
"""

from __future__ import annotations

import bisect
import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from workbench.compressed import CompressedModel
from workbench.editing import dial_values
from workbench.measure.estimate import Estimate
from workbench.models.edits import Edit
from workbench.recipe import Recipe, Step
from workbench.techniques import TECHNIQUES
from workbench.techniques.prune import PruneSettings

from .sensitivity import Floats, Question, Sensitivity

if TYPE_CHECKING:
    from workbench.subject import Subject

#: Half of the interval before enough errors are known, as a share.
FIRST = 0.076
#: What is added to the loss foreseen, when an error is put in relation to it.
NEAR = 0.01
#: Images that every cell of a sweep must rest on.
LEAST = 256
#: Past errors remembered, at most.
REMEMBERED = 200

#: Technique → where each layer stands on its curve.
Places = Mapping[str, Floats]


class AccuracySurrogate:
    """Predicts the accuracy of compressed models of one subject; safe to use from several threads.

    ``chance`` is the accuracy of guessing.
    """

    def __init__(self, subject: Subject, chance: float) -> None:
        self._names = tuple(layer.name for layer in subject.layers)
        self._chance = chance
        self._magnitudes = {layer.name: _magnitudes(subject, layer.weights) for layer in subject.layers}
        self._lock = threading.Lock()
        self._curves: dict[str, Curves] = {}
        self._baseline: Estimate | None = None
        self._asked: OrderedDict[str, Places] = OrderedDict()
        self._measured: OrderedDict[str, tuple[Places, float]] = OrderedDict()
        self._scores: list[float] = []

    @property
    def ready(self) -> bool:
        """Whether it can predict anything."""
        return bool(self._curves)

    @property
    def errors(self) -> Floats:
        """Predicted minus measured accuracy, as shares, for the recipes measured so far."""
        with self._lock:
            return np.array([self._predict(places) - true for places, true in self._known()])

    def learn(self, found: Iterable[Sensitivity]) -> None:
        """Take the curves of sweeps; one that does not cover all layers, or rests on few images, is left out."""
        usable = [sweep for sweep in found if sweep.layers == self._names and int(sweep.n.min()) >= LEAST]
        with self._lock:
            curves = {sweep.question.technique: Curves(sweep, self._chance) for sweep in usable}
            if any(name in curves and curves[name].question != old.question for name, old in self._curves.items()):
                self._asked.clear()  # what was said of another grid says nothing of this one
                self._measured.clear()
            self._curves = curves
            self._baseline = usable[0].baseline if usable else None
            self._score()

    def covers(self, recipe: Recipe) -> bool:
        """Whether all that ``recipe`` does was swept."""
        techniques = [step.technique for step in recipe.steps]
        return (
            bool(techniques)
            and len(set(techniques)) == len(techniques)
            and all(step.technique in self._curves and _fits(step, self._curves[step.technique].question)
                    for step in recipe.steps)
        )  # fmt: skip

    def __call__(self, compressed: CompressedModel) -> Estimate | None:
        """Return the accuracy foreseen, None where the recipe does what was not swept."""
        recipe = compressed.recipe
        with self._lock:
            places = self._place(recipe, compressed.thresholds, compressed.edits)
            if places is None or self._baseline is None:
                return None
            self._asked[recipe.hash] = places
            while len(self._asked) > REMEMBERED:
                self._asked.popitem(last=False)
            value = self._predict(places)
            half = self._half(value)
            return Estimate(value, max(0.0, value - half), min(1.0, value + half), 0, "predicted", self._baseline.split)

    def note(self, recipe_hash: str, accuracy: float) -> None:
        """Learn from what a recipe that was asked about truly has."""
        with self._lock:
            if recipe_hash in self._asked:
                self._remember(recipe_hash, self._asked[recipe_hash], accuracy)

    def note_past(
        self, recipe: Recipe, thresholds: Mapping[str, float], edits: Sequence[Edit], accuracy: float
    ) -> None:
        """Learn from a recipe measured earlier."""
        with self._lock:
            places = self._place(recipe, thresholds, edits)
            if places is not None:
                self._remember(recipe.hash, places, accuracy)

    def _remember(self, recipe_hash: str, places: Places, accuracy: float) -> None:
        if not places.keys() <= self._curves.keys():
            return
        again = recipe_hash in self._measured
        self._measured[recipe_hash] = places, accuracy
        if again or len(self._measured) > REMEMBERED:
            while len(self._measured) > REMEMBERED:
                self._measured.popitem(last=False)
            self._score()
        else:
            bisect.insort(self._scores, self._score_of(places, accuracy))

    def _known(self) -> list[tuple[Places, float]]:
        return [entry for entry in self._measured.values() if entry[0].keys() <= self._curves.keys()]

    def _place(self, recipe: Recipe, thresholds: Mapping[str, float], edits: Sequence[Edit]) -> Places | None:
        """Return where each layer stands on each technique's curve."""
        if edits or not self.covers(recipe):
            return None
        places: dict[str, Floats] = {}
        for step in recipe.steps:
            if step.technique == "prune":
                places["prune"] = np.array([self._pruned(name, thresholds.get(name)) for name in self._names])
            else:
                values = dial_values(recipe, step.technique, self._names)
                places[step.technique] = np.array([values[name].value for name in self._names])
        return places

    def _pruned(self, layer: str, threshold: float | None) -> float:
        """Return the share of a layer's weights that a threshold removes."""
        if threshold is None:
            return 0.0
        magnitudes = self._magnitudes[layer]
        return int(np.searchsorted(magnitudes, np.float32(threshold), "right")) / len(magnitudes)

    def _predict(self, places: Places) -> float:
        assert self._baseline is not None
        left = math.prod(self._curves[technique].left(where) for technique, where in places.items())
        return self._chance + (self._baseline.value - self._chance) * left

    def _half(self, value: float) -> float:
        """Return half of the interval around the prediction ``value``."""
        scores = self._scores
        rank = math.ceil(0.95 * (len(scores) + 1))
        if rank <= len(scores):
            return scores[rank - 1] * self._scale(value)
        return max([FIRST, *(score * self._scale(value) for score in scores[-1:])])

    def _score(self) -> None:
        """Put every past error in relation to the loss foreseen, and sort them."""
        self._scores = sorted(self._score_of(places, true) for places, true in self._known())

    def _score_of(self, places: Places, true: float) -> float:
        predicted = self._predict(places)
        return abs(predicted - true) / self._scale(predicted)

    def _scale(self, predicted: float) -> float:
        assert self._baseline is not None
        return NEAR + max(0.0, self._baseline.value - predicted)


def _magnitudes(subject: Subject, weights: Sequence[str]) -> NDArray[np.float32]:
    return np.sort(np.concatenate([np.abs(subject.tensors[name].numpy()).ravel() for name in weights]))


class Curves:
    """One technique's curves: for each layer, the share of the accuracy above chance that is left."""

    def __init__(self, sweep: Sensitivity, chance: float) -> None:
        self.question = sweep.question
        dial = TECHNIQUES[self.question.technique].dial
        assert dial is not None
        levels, left = [dial.neutral, *map(float, self.question.levels)], _left(sweep, chance)
        if dial.percent:  # nothing is left of a layer without any weight
            levels, left = [*levels, 1.0], np.column_stack([left, np.zeros(len(left))])
        order = np.argsort(levels)
        self._levels, self._left = np.array(levels)[order], left[:, order]

    def left(self, places: Floats) -> float:
        """Return what is left with each layer at its place, multiplied over the layers."""
        curves = zip(places, self._left, strict=True)
        return math.prod(float(np.interp(place, self._levels, left)) for place, left in curves)


def _left(sweep: Sensitivity, chance: float) -> Floats:
    """Return monotone curves ``(layers, 1 + levels)``, from the dense model to the harshest level."""
    from scipy.optimize import isotonic_regression

    baseline = sweep.baseline
    curves = []
    for values, images in zip(sweep.value, sweep.n, strict=True):
        accuracies, weights = np.r_[baseline.value, values], np.r_[baseline.n, images]
        curves.append(isotonic_regression(accuracies, weights=weights, increasing=False).x)
    above = (np.array(curves) - chance) / max(1e-9, baseline.value - chance)
    return np.asarray(np.maximum(above, 0.0))


def _fits(step: Step, question: Question) -> bool:
    """Whether a step compresses in the way that was swept: its settings beside the dial are the same."""
    definition = TECHNIQUES[step.technique]
    dial, fields = definition.dial, definition.settings.model_fields
    if dial is None or question.setting != dial.setting:
        return False
    chosen = [step.settings, *(override.settings for override in step.overrides)]
    if any(isinstance(settings, PruneSettings) and not settings.by_threshold for settings in chosen):
        return False  # the curves are read at the magnitude up to which each layer was pruned
    compared = [
        name
        for name, entry in fields.items()
        if name != dial.setting and name not in dial.alone and entry.default is not None
    ]
    wanted = {name: question.settings.get(name, fields[name].default) for name in compared}
    return all(getattr(step.settings, name) == wanted[name] for name in compared) and all(
        getattr(override.settings, name) == wanted[name]
        for override in step.overrides
        for name in compared
        if name in override.changed
    )
