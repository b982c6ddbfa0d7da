"""Orders and pairs of steps that are known to be bad, each with its reason.

Steps make sense in the order: equalize, prune, split, factorize, quantize or share, then what repairs. Remarks do not
stop a recipe; they say what it costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Protocol

from .base import Settings


class Override(Protocol):
    """What is looked at of changed settings for some layers."""

    @property
    def settings(self) -> Settings:
        """The settings with the changes."""

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of those that are changed."""


class Step(Protocol):
    """What is looked at of a recipe's step."""

    @property
    def technique(self) -> str:
        """The technique's name."""

    @property
    def settings(self) -> Settings:
        """The settings of the layers that have none of their own."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Glob patterns over layer names."""

    @property
    def overrides(self) -> Sequence[Override]:
        """Changed settings for some layers."""


#: Techniques that decide how a weight is stored.
STORING = ("quantize", "share")
#: Techniques after which the model computes the same, by other weights.
REWRITING = ("equalize", "fold_batchnorm", "smooth", "split")
#: (earlier, later) → why the two should not stand in this order on one layer.
_ORDER = {
    **{
        (
            storing,
            "prune",
        ): f"{storing} fitted its values to weights that prune removes: put prune before {storing}."
        for storing in STORING
    },
    **{
        (storing, "factorize"): f"factorize makes new numbers, and what {storing} stored is lost: put factorize before "
        f"{storing}."
        for storing in STORING
    },
    **{
        (
            storing,
            "equalize",
        ): f"equalize rescales what {storing} has put on its values already, which "
        f"are lost: put equalize before {storing}."
        for storing in STORING
    },
    **{
        (storing, "split"): f"split halves what {storing} has put on its values already: put split before {storing}."
        for storing in STORING
    },
    **{
        (
            storing,
            "fold_batchnorm",
        ): f"fold_batchnorm rescales what {storing} has put on its values already: put fold_batchnorm before {storing}."
        for storing in STORING
    },
    ("split", "equalize"): "equalize evens the channels out that split has doubled: put equalize before split.",
    ("factorize", "split"): "split finds no channels to double inside factors: put split before factorize.",
    ("factorize", "equalize"): "equalize finds no channels to rescale inside factors: put equalize before factorize.",
    ("quantize", "share"): "share replaces what quantize stored, and both roundings add up: keep one of them.",
    ("share", "quantize"): "quantize replaces the codebook of share, and both roundings add up: keep one of them.",
    ("quantize", "quantize"): "the second quantize rounds what the first has rounded: give one step overrides instead.",
    ("share", "share"): "the second share makes a codebook of a codebook: give one step overrides instead.",
    **{
        (repair, later): f"{later} changes the weights that {repair} had corrected for: put {repair} last."
        for repair in ("recalibrate", "correct_bias")
        for later in ("equalize", "prune", "factorize", *STORING)
    },
}


def remarks(steps: Sequence[Step]) -> tuple[str, ...]:
    """Return a sentence for each setting that changes nothing, and each bad pair of steps.

    Pairs are those that act on a common layer in an order known to be bad.
    """
    found = []
    for (first, earlier), (second, later) in combinations(enumerate(steps, 1), 2):
        reason = (
            _ORDER.get((earlier.technique, later.technique))
            or _filters_after_factors(earlier, later)
            or _means_alone(earlier, later)
        )
        if reason and _meet(earlier, later) and not (_leaves_weights(earlier) or _leaves_weights(later)):
            found.append(f"Steps {first} and {second}: {reason}")
    return (*_idle_settings(steps), *_nothing_left(steps), *found, *_taken_for_dense(steps))


def _nothing_left(steps: Sequence[Step]) -> Iterator[str]:
    """Yield a sentence for each step whose grid has no value beside zero that a weight comes near."""
    for place, step in enumerate(steps, 1):
        for settings in dict.fromkeys((step.settings, *(override.settings for override in step.overrides))):
            told = {name: getattr(settings, name, None) for name in ("kind", "bits", "scheme", "range", "rounding")}
            if step.technique == "quantize" and tuple(told.values()) == (
                "integer",
                1,
                "symmetric",
                "minmax",
                "nearest",
            ):
                yield (
                    f"Step {place} (quantize): a symmetric grid of 1 bit is zero and what lies below all weights, so "
                    "that every weight becomes zero: take format: binary, which keeps their signs."
                )


def _taken_for_dense(steps: Sequence[Step]) -> Iterator[str]:
    """Yield a sentence for each step that rewrites zeroed weights before ``correct_bias``, which takes them for dense.

    What it brings back is what the rewritten model gave, and that one has lost already what pruning took.
    """
    for (first, prune), (second, rewriting), (third, repair) in combinations(enumerate(steps, 1), 3):
        if (prune.technique, repair.technique) != ("prune", "correct_bias") or rewriting.technique not in REWRITING:
            continue
        removes = getattr(prune.settings, "granularity", "weight") in ("filter", "head", "layer")
        if not removes and _meet(prune, rewriting) and _meet(rewriting, repair):
            yield (
                f"Steps {first}, {second} and {third}: {rewriting.technique} rewrites weights that prune has zeroed, "
                "and correct_bias takes them for what was there before pruning, of which it then corrects nothing: "
                f"put {rewriting.technique} before prune."
            )


def _idle_settings(steps: Sequence[Step]) -> Iterator[str]:
    """Yield a sentence for each setting that was given and changes nothing."""
    for place, step in enumerate(steps, 1):
        idle = dict.fromkeys(step.settings.idle())
        for override in step.overrides:
            idle |= dict.fromkeys(override.settings.idle(override.changed))
        for name, other, value in idle:
            shown = f"{other} {value}" if not isinstance(value, bool | None) else f"{other} {'on' if value else 'off'}"
            yield f"Step {place} ({step.technique}): {name} changes nothing with {shown}."


def remarks_on(device: str, sparse: str | None, steps: Sequence[Step]) -> tuple[str, ...]:
    """Return a sentence for each step whose pattern of zeros ``device`` has no instructions for.

    ``sparse`` is the pattern that it does have them for, such as "2:4"; None where there is none.
    """
    found = []
    for place, step in enumerate(steps, 1):
        if step.technique != "prune" or getattr(step.settings, "granularity", "weight") != "n:m":
            continue
        pattern = f"{getattr(step.settings, 'n', 2)}:{getattr(step.settings, 'm', 4)}"
        if pattern != sparse:
            only = f"only for {sparse} patterns" if sparse else "for no pattern of zeros"
            instead = f"keep {sparse}, " if sparse else ""
            found.append(
                f"Step {place}: {device} has instructions {only}, so that {pattern} pruning speeds up nothing there: "
                f"{instead}remove filters, or prune single weights, which costs less accuracy."
            )
    return tuple(found)


def _filters_after_factors(earlier: Step, later: Step) -> str | None:
    if (earlier.technique, later.technique) != ("factorize", "prune"):
        return None
    if getattr(later.settings, "granularity", "weight") not in ("filter", "head"):
        return None
    return "filters of factorized layers are not ranked any more: put prune before factorize."


def _means_alone(earlier: Step, later: Step) -> str | None:
    if later.technique != "correct_bias" or getattr(later.settings, "spread", True):
        return None
    clipped = earlier.technique == "quantize" and getattr(earlier.settings, "range", "minmax") != "minmax"
    if not clipped and earlier.technique not in ("prune", "factorize"):
        return None
    return (
        f"{earlier.technique} narrows what layers give, and with their means alone brought back ReLUs let too little "
        "through: leave spread of correct_bias on."
    )


def _leaves_weights(step: Step) -> bool:
    """Whether a step that stores leaves the weights as they are, for the sake of activations."""
    return step.technique in STORING and getattr(step.settings, "bits", None) == 32


def _meet(earlier: Step, later: Step) -> bool:
    """Whether both may act on one layer, as far as the patterns tell."""
    if "recalibrate" in (earlier.technique, later.technique):
        return True  # it acts on the whole model, whatever its layers
    return any(fnmatchcase(one, other) or fnmatchcase(other, one) for one in earlier.layers for other in later.layers)
