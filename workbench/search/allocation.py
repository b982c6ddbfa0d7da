"""What an allocation answers: recipes within a budget, what was foreseen of each, and what was measured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from workbench.measure.estimate import Estimate
from workbench.recipe import Recipe
from workbench.snapshot import Snapshot

from .budget import Budget, Kind
from .costs import cost_of
from .problem import Choice


@dataclass(frozen=True)
class Answer:
    """One recipe: ``by`` says how it was found (``exact``, ``greedy``, ``uniform``).

    ``predicted`` and ``divergence`` were foreseen before it was run, without the ``repair`` (a step behind all others)
    that the recipe may end with; ``cost`` is what it truly costs of the budget's kind. ``validation`` is its
    measurement on the validation split, with ``diverged`` its divergence there, and ``reported`` the one on the split
    that figures are reported on; each is None until it is known.
    """

    by: str
    choice: Choice
    recipe: Recipe
    predicted: Estimate
    divergence: float
    cost: float
    repair: str = ""
    validation: Snapshot | None = None
    diverged: float | None = None
    reported: Snapshot | None = None

    @property
    def accuracy(self) -> float:
        """The accuracy on the validation split (without labels, the agreement); foreseen, until it is measured."""
        figure = self.validation.score if self.validation else None
        return figure.value if figure else self.predicted.value

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        shown = self.reported or self.validation
        return {
            "by": self.by,
            "recipe": self.recipe.to_data(),
            "recipe_hash": self.recipe.hash,
            "repair": self.repair or None,
            "predicted": {"accuracy": self.predicted.to_json(), "kl": self.divergence},
            "measured": _measured(shown, self),
        }


def _measured(shown: Snapshot | None, answer: Answer) -> dict[str, Any] | None:
    if shown is None:
        return None
    validation = answer.validation
    return {
        "accuracy": _json(shown.accuracy),
        "agreement": _json(shown.agreement),
        "validation": _json(validation.score) if validation else None,
        "kl": answer.diverged,
        "size": _json(shown.size),
        "latency": _json(shown.latency),
        "macs": sum(layer.macs for layer in shown.layers),
    }


@dataclass(frozen=True)
class Allocation:
    """The answers to a budget so far; ``best`` is what to take, ``done`` that nothing more will come.

    ``baseline`` is the dense model on the split that figures are reported on (on the validation split until then),
    ``searched`` its accuracy on the validation split. ``candidates`` are all that were measured, ``remarks`` say in
    words where a prediction was off. ``images`` are behind each option's divergence. ``first`` is after how many
    seconds the first measured answer was there, ``seconds`` the time until now.
    """

    budget: Budget
    methods: tuple[str, ...]
    locked: tuple[str, ...]
    baseline: Snapshot
    searched: float
    best: Answer
    greedy: Answer | None = None
    uniform: Answer | None = None
    candidates: tuple[Answer, ...] = ()
    remarks: tuple[str, ...] = ()
    images: int = 0
    first: float | None = None
    seconds: float = 0.0
    done: bool = False

    @property
    def recipe(self) -> Recipe:
        """The recipe to take."""
        return self.best.recipe

    def to_json(self) -> dict[str, Any]:
        """Return the plain data of ``workbench allocate --json``."""
        best = self.best.to_json()
        kind = self.budget.kind
        return {
            "recipe": best["recipe"],
            "recipe_hash": best["recipe_hash"],
            "predicted": {**best["predicted"], self.budget.counted: self.best.cost},
            "measured": best["measured"],
            "baselines": {
                name: answer.to_json() if answer else None
                for name, answer in (("uniform", self.uniform), ("greedy", self.greedy))
            },
            "budget": {"kind": kind, "limit": self.budget.limit, "used": used(self.best, kind, self.searched)},
            "techniques": list(self.methods),
            "locked": list(self.locked),
            "dense": {"accuracy": _json(self.baseline.accuracy), "agreement": _json(self.baseline.agreement),
                      "size": _json(self.baseline.size), "latency": _json(self.baseline.latency)},
            "candidates": [answer.to_json() for answer in self.candidates],
            "remarks": list(self.remarks),
            "images_per_option": self.images,
            "first_answer_seconds": self.first,
            "seconds": self.seconds,
        }  # fmt: skip


def used(answer: Answer, kind: Kind, baseline: float) -> float:
    """Return what of the budget an answer takes: its true cost, or the accuracy lost on the validation split."""
    if kind != "drop":
        return answer.cost
    return lost_by(answer, baseline)


def lost_by(answer: Answer, baseline: float) -> float:
    """Return the accuracy that an answer loses on the validation split, where the dense model has ``baseline``."""
    return baseline - answer.accuracy


def measured(answer: Answer, snapshot: Snapshot, divergence: float, kind: Kind) -> Answer:
    """Return ``answer`` with its measurement on the validation split."""
    return replace(answer, validation=snapshot, diverged=divergence, cost=cost_of(snapshot, kind))


def remark(answer: Answer, title: str) -> str | None:
    """Return a sentence on where a prediction was off, None where the measured figure lies within its interval.

    ``answer`` is one without a repair, since none is foreseen.
    """
    figure = answer.validation.score if answer.validation else None
    if figure is None or answer.predicted.low <= figure.value <= answer.predicted.high:
        return None
    off = 100 * (answer.predicted.value - figure.value)
    words = "too good" if off > 0 else "too bad"
    text = (
        f"{title}: {answer.predicted.value:.2%} was foreseen and {figure.value:.2%} measured on the {figure.split} "
        f"split, so the prediction was {abs(off):.2f} points {words}, outside its interval"
    )
    if answer.diverged is not None and answer.divergence > 0:
        ratio = answer.diverged / answer.divergence
        if ratio > 1.25 or ratio < 0.8:
            how = "more" if ratio > 1 else "less"
            text += f"; together the layers' changes harm {how} than their sum ({ratio:.1f} times)"
    return text + "."


def _json(figure: Any) -> dict[str, Any] | None:
    return None if figure is None else figure.to_json()
