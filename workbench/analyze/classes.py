"""Which classes a compressed model hurts: accuracy class by class, and a test for harm beyond chance.

Both models answered the same images, so a class is judged by its *flips*: ``lost`` (right before, wrong
after) and ``won`` (the reverse). A class is called hurt when two things hold, each with at most 5 % chance
of a false alarm over all classes together:

1. *It lost.* McNemar's exact test, one-sided: were lost and won equally likely, would so many be lost? The
   classes' p-values are adjusted by Westfall and Young's step-down minimum-p method. Given the number of
   flips the classes are independent and each p-value's distribution is a known binomial one, so the adjustment
   is exact and needs no resampling; where flips are few it is far less strict than Holm's, because p-values
   that cannot occur are not paid for (Tarone 1990; Westfall and Wolfinger 1997).
2. *It lost more than the others did.* The difference between the class's mean change and that of all other
   images, over its standard error, against the largest such difference when the class labels are permuted.
   The standard error is each class's own, which keeps the test valid where hard classes flip more often
   (Chung and Romano 2013). A permutation of labels only deals the lost and the won images out anew, so it is
   drawn as counts (multivariate hypergeometric), 5,000 times in milliseconds.

By requiring both, a recipe that costs every class the same three points names none: that is what the
headline accuracy is for. One that keeps the headline and takes three points from one class names that class.
Measured by ``python -m tests.bench.classes``.

Sources: McNemar 1947; Westfall and Young 1993, *Resampling-Based Multiple Testing*; Bonett and Price 2012,
"Adjusted Wald intervals for paired binomial proportions"; Wilson 1927.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]
Answers = NDArray[np.integer[Any]]

#: Chance of naming any class where none is hurt more than the others.
ALARM = 0.05
#: 97.5 % quantile of the normal distribution, for two-sided intervals of 95 %.
Z = 1.959964
#: Permutations of the labels, fewer where there are so many classes that they would take a second.
PERMUTATIONS, FEWEST, WORK = 5_000, 1_000, 5_000_000


@dataclass(frozen=True)
class Share:
    """A share of ``n`` images with the 95 % interval of the rate behind it (Wilson's)."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Change:
    """A paired change of a share, after minus before, with its 95 % interval (Bonett and Price's)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ClassChange:
    """What became of one class. ``p`` is adjusted for all classes; ``hurt``: harm beyond chance."""

    index: int
    name: str
    before: Share
    after: Share
    lost: int
    won: int
    change: Change
    p: float
    hurt: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class ClassReport:
    """All classes, in their order, and the change over all images."""

    rows: tuple[ClassChange, ...]
    overall: Change
    n: int

    @property
    def hurt(self) -> tuple[ClassChange, ...]:
        """The classes hurt beyond chance, the worst first."""
        return tuple(sorted((row for row in self.rows if row.hurt), key=lambda row: row.change.value))

    def sentence(self) -> str:
        """Return in one sentence which classes are hurt."""
        if not self.hurt:
            return "No class is hurt beyond chance."
        named = ", ".join(f"{row.name} {points(row.change.value)}" for row in self.hurt[:4])
        more = f" and {len(self.hurt) - 4} more" if len(self.hurt) > 4 else ""
        return f"Hurt beyond chance: {named}{more} points, while all images together changed by " + (
            f"{points(self.overall.value)}."
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "n": self.n,
            "overall": asdict(self.overall),
            "hurt": [row.name for row in self.hurt],
            "rows": [row.to_json() for row in self.rows],
        }


def points(change: float) -> str:
    """Return a change of a share in percentage points, signed: ``−3.1``.

    >>> points(-0.031), points(0.0)
    ('−3.1', '0.0')
    """
    return f"{100 * change:+.1f}".replace("-", "−").removeprefix("+") if abs(change) >= 5e-4 else "0.0"


def compare_classes(
    before: Answers, after: Answers, labels: Answers, classes: Sequence[str], seed: int = 0
) -> ClassReport:
    """Return what became of each class between the answers ``before`` and ``after`` ``(N,)``.

    ``labels`` ``(N,)`` number ``classes``. ``seed`` is that of the permutations. Raises ``WorkbenchError``
    where the three are not of one length, or labels are missing (negative).
    """
    require_labels(labels, "Accuracy per class")
    if not len(before) == len(after) == len(labels):
        raise WorkbenchError(
            f"There are {len(before):,} and {len(after):,} answers and {len(labels):,} labels; all must be of the "
            "same images."
        )
    right_before, right_after = before == labels, after == labels
    sizes, lost, won = (
        np.bincount(labels[chosen], minlength=len(classes)).astype(np.int64)
        for chosen in (slice(None), right_before & ~right_after, right_after & ~right_before)
    )
    hits = np.bincount(labels[right_before], minlength=len(classes)).astype(np.int64)
    still = hits + won - lost
    p = find_hurt(sizes, lost, won, seed)
    rows = tuple(
        ClassChange(
            index, name, wilson(hits[index], sizes[index]), wilson(still[index], sizes[index]),
            int(lost[index]), int(won[index]), paired_change(lost[index], won[index], sizes[index]),
            float(p[index]), bool(p[index] <= ALARM),
        )
        for index, name in enumerate(classes)
    )  # fmt: skip
    return ClassReport(rows, paired_change(lost.sum(), won.sum(), len(labels)), len(labels))


def require_labels(labels: Answers | None, what: str) -> None:
    """Raise ``WorkbenchError`` where there are no labels to judge answers by; ``what`` needs them."""
    if labels is None or (len(labels) and int(labels.min()) < 0):
        raise WorkbenchError(
            f"{what} needs labels, and these images have none; flips, the table of answers, confidences, drift of "
            "activations and attributions work without."
        )


def find_hurt(sizes: Counts, lost: Counts, won: Counts, seed: int = 0) -> Floats:
    """Return each class's p-value, adjusted for all: at most ``ALARM`` for those hurt beyond chance.

    ``sizes``, ``lost`` and ``won`` ``(classes,)`` count a class's images and its flips.
    """
    return np.maximum(adjusted_mcnemar(lost, won), adjusted_excess(sizes, lost, won, seed))


def mcnemar(lost: int, won: int) -> float:
    """Return McNemar's exact p-value, one-sided: of so many flips, as many lost or more.

    >>> round(mcnemar(5, 0), 5)
    0.03125
    """
    return float(_tails(lost + won)[lost])


def adjusted_mcnemar(lost: Counts, won: Counts) -> Floats:
    """Return McNemar's p-value of each class, adjusted for all by the step-down minimum-p method."""
    tails = [_tails(int(flips)) for flips in lost + won]
    raw = np.array([tail[count] for tail, count in zip(tails, lost, strict=True)])
    order = np.argsort(raw, kind="stable")
    adjusted, worst = np.ones(len(raw)), 0.0
    for place, index in enumerate(order):
        rivals = order[place:]
        reached = np.array([_largest_up_to(tails[rival], raw[index]) for rival in rivals])
        none_reaches = np.log1p(-np.minimum(reached, 1 - 1e-16)).sum()
        worst = max(worst, float(-np.expm1(none_reaches)))
        adjusted[index] = min(1.0, worst)
        if worst >= 1:
            break
    return adjusted


def adjusted_excess(sizes: Counts, lost: Counts, won: Counts, seed: int = 0) -> Floats:
    """Return for each class how likely chance gives any class so much more harm than the other images have."""
    draws = int(np.clip(WORK // max(1, len(sizes)), FEWEST, PERMUTATIONS))
    rng = np.random.default_rng(seed)
    dealt_lost = rng.multivariate_hypergeometric(sizes, int(lost.sum()), draws, method="marginals")
    dealt_won = _deal(rng, sizes - dealt_lost, int(won.sum()))
    largest = np.sort(_excess(sizes, dealt_lost, dealt_won).max(1))
    as_large = draws - np.searchsorted(largest, _excess(sizes, lost, won) - 1e-12)
    return np.asarray((1 + as_large) / (1 + draws))


def wilson(hits: float, n: float) -> Share:
    """Return a share with Wilson's 95 % interval; of no images it is 0 within 0 to 1."""
    if not n:
        return Share(0.0, 0.0, 1.0, 0)
    share, weight = hits / n, Z * Z / n
    middle, half = share + weight / 2, Z * np.sqrt(share * (1 - share) / n + weight / (4 * n))
    low, high = (middle - half) / (1 + weight), (middle + half) / (1 + weight)
    return Share(float(share), float(max(0.0, low)), float(min(1.0, high)), int(n))


def paired_change(lost: float, won: float, n: float) -> Change:
    """Return the change of a share over ``n`` images with its 95 % interval."""
    if not n:
        return Change(0.0, -1.0, 1.0)
    down, up = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    half = Z * np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    low, high = max(-1.0, up - down - half), min(1.0, up - down + half)
    return Change(float((won - lost) / n), float(low), float(high))


def _tails(flips: int) -> Floats:
    """Return P(at least k of so many flips are lost), k = 0 … flips, where both kinds are equally likely."""
    from scipy.special import bdtrc  # scipy.stats would take a second to import

    return np.asarray(bdtrc(np.arange(-1, flips, dtype=float), flips, 0.5))


def _largest_up_to(tail: Floats, p: float) -> float:
    """Return the chance that a p-value from ``tail`` is ``p`` or less: the largest one that can occur there."""
    possible = tail[tail <= p]
    return float(possible[0]) if len(possible) else 0.0


def _deal(rng: np.random.Generator, room: Counts, count: int) -> Counts:
    """Deal ``count`` images to classes that have ``room`` ``(draws, classes)``, without replacement."""
    dealt = np.zeros_like(room)
    left, behind = np.full(len(room), count), room.sum(1)
    for index in range(room.shape[1]):
        behind = behind - room[:, index]
        dealt[:, index] = rng.hypergeometric(room[:, index], behind, left)
        left = left - dealt[:, index]
    return dealt


def _excess(sizes: Counts, lost: Counts, won: Counts) -> Floats:
    """Return how much more each class lost than all other images, in standard errors; counts ``(..., classes)``."""
    changed, flips = won - lost, won + lost
    others = sizes.sum() - sizes
    mean, spread = _moments(changed, flips, sizes)
    rest, rest_spread = _moments(changed.sum(-1, keepdims=True) - changed, flips.sum(-1, keepdims=True) - flips, others)
    error = np.sqrt(spread + rest_spread)
    return np.divide(rest - mean, error, out=np.zeros_like(mean), where=error > 0)


def _moments(changed: Counts, flips: Counts, n: Counts) -> tuple[Floats, Floats]:
    """Return the mean change and the squared standard error of that mean."""
    many = np.maximum(n, 1)
    mean = changed / many
    return mean, (flips / many - mean**2) / many
