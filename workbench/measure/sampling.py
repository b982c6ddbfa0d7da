"""Accuracy from the first few images, with an interval that holds at every look.

*Setting.* A split has N images whose labels and baseline logits are known. A compressed model is run on
them in a fixed random order; after n = 64, 128, 256, ... images (the *looks*) a figure for the whole
split is shown with an interval. The last look has run every image and is exact.

*Order and estimator.* Images are cut into cells along the baseline's margin (``strata``), so that small
margins are drawn more often, and the estimate adds each cell's mean times its size. All images of a cell
are right under the baseline, or all are wrong, so this is at the same time the regression-paired
estimator with a coefficient of its own for each cell: the baseline's correctness is constant there.
Near the baseline the cells' variances vanish, and for a wrecked model it is plain stratified sampling.
It is unbiased over the orders; no model of the flips enters the value (it is only moved into its
interval's ends, where the images already run settle those).

*Variance.* The rate of right answers in each cell is needed for the variance only (``shares``). It is
pooled from (a) the sampled answers of neighbouring cells, (b) the rate predicted by how far the sampled
margins moved, worth ``TRUST`` images, and (c) ``UNFORESEEN`` flips among n images, anywhere. (b) and (c)
keep zero observed flips from meaning zero variance. (b): 64 images may show no flip, but they show 64
changes of margin, and the spread of those against an unsampled image's margin says how likely it flips.
(c): flips that have nothing to do with the margin. Each cell carries its finite-population factor. Few
flips make the distribution skewed, so an end of the interval is where half² = z² (variance + γ half), γ
being ``SKEWNESS`` times the third moment over the second: between Cornish and Fisher's correction (rates
known, 1/3) and the score test (rates unknown, 1). One image is added on either side for discreteness,
and the interval ends where the images not yet run cannot take it.

*All looks at once.* z is shared by Bonferroni's inequality: 5 % over the looks but the last (8 for 10,000
images, z = 2.73). For an estimate that is Gaussian jointly over the looks 2.67 would do (simulated); the
2.5 % in width buys freedom from that assumption. The loss is treated alike, with Student's quantile on
n / 4 degrees of freedom, widened by a tenth, and a third moment taken from the sample.

*What is proven and what is measured.* The value is unbiased for any model. That the intervals cover is
measured: ``python -m tests.bench.estimator`` replays predictions of zoo models under many recipes over
random orders, and prints coverage and width in each bin of disagreement with the baseline. The constants
were set by such replays on the two LeNets and on two ResNet-20s of width 8, under recipes much like those
of the bench, so that for the LeNets it only confirms. ResNet-20 had no part in what concerns the shares
(the loss's tenth was set with it in view), MobileNetV2 none in anything; the orders are others.

Adversaries whose flips ignore the margin were tried too, 500 orders each: 0.5 to 30 % of the images given
another image's logits, one class exchanged for another, 3 % set to zero. The accuracy is covered in 88 to
100 % of runs, so some fall short of 95. The loss is not safe against them, 25 % at worst: a few images of
enormous loss cannot be foreseen from a sample that holds none. Coverage is promised for the mean of a bin,
not for each recipe: the worst was 94 % for the accuracy, 87 % for the agreement, 89 % for top-5.

*Tried and rejected.* Half-widths in points at n = 64 / 256, mean over recipes that disagree on at most 5 %
of the images; 438 recipes, 80 orders. "Worst bin" is the lowest coverage of a bin of one model; a difference
of a point in it may be chance. As it stands: 3.38 / 1.25, worst bin 95.1 %.

- All in proportion instead of 70 %: 4.90 / 2.06, though wrecked models get 0.92 of Wilson's width instead
  of 0.97. Half in proportion: 3.58 / 1.18, 1.04 of Wilson's, worst bin 94.4 %.
- γ in full: 4.06 / 1.36. None: 2.83 / 1.16, but the worst bin is 93.9 %, and 1 % of images exchanged at
  random are covered in 72 % of runs instead of 93 %.
- Without (b): 3.51 / 1.27, worst bin 93.8 %. Without (c): 2.78 / 1.16, worst bin 95.0 %, but 0.5 to 2 % of
  images exchanged are covered in 70 to 78 %. Three tenths of a flip instead: 4.67 / 1.47.
- Pooling over four cells instead of two and a half: 3.82 / 1.36, worst bin 95.4 %.
- No image for discreteness: the worst twentieth of the recipes at 1 to 5 % falls from 94.1 to 86.8 %.
- Compressed margins not brought back to scale: the same widths for common recipes, but 12.1 instead of 2.9
  for logits divided by ten, which flips nothing.
- In an early version, LeNets only: the skewness bounded by the heaviest cell, 5.8 / 2.2. And a value that
  adds every unsampled image's predicted answer: its error at n = 64 is a quarter smaller at 1 to 5 %
  disagreement (0.77 against 1.02 points), but it is biased, and at 5 to 20 % more images hardly help (2.95,
  then 2.44 at n = 256, against 2.96 and 1.59).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.counting import counted
from workbench.errors import WorkbenchError

from .answers import Answers
from .estimate import Estimate
from .shares import Interval, estimate_mean, estimate_share
from .strata import Flags, Floats, Ints, Look, Strata

#: Two-sided error over all looks together.
ERROR = 0.05


@dataclass(frozen=True)
class Figures:
    """What one look at a compressed model says; ``top5`` is None with fewer than ten classes."""

    accuracy: Estimate
    agreement: Estimate
    loss: Estimate
    top5: Estimate | None


class Sampler:
    """The sample order, the looks and the estimator for one baseline on one split.

    ``baseline_logits`` ``(N, C)``, ``labels`` ``(N,)``. The first ``n`` entries of ``order`` are the
    sample of size ``n``; ``looks`` are the sizes at which figures can be had: ``first``, doubling, N.

    >>> logits = np.eye(10, dtype=np.float32)[np.arange(1000) % 10]
    >>> sampler = Sampler(logits, np.arange(1000) % 10)
    >>> sampler.looks
    (64, 128, 256, 512, 1000)
    >>> sampler.estimate(logits[sampler.order[:64]]).accuracy.value
    1.0
    """

    def __init__(
        self,
        baseline_logits: NDArray[np.float32],
        labels: NDArray[np.int64],
        seed: int = 0,
        first: int = 64,
        split: str = "test",
    ) -> None:
        logits = np.asarray(baseline_logits)
        self.labels: Ints = np.asarray(labels, dtype=np.int64)
        _check(logits, self.labels, first)
        self.split = split
        self.predicted: Ints = logits.argmax(1)
        before = Answers(logits, self.labels, self.predicted)
        self._margins = {name: _finite(before.margin(name)) for name in before.shares}
        self._loss = before.loss
        cells = min(first, len(self.labels))
        self.strata = Strata.of(self._margins["accuracy"], before.right("accuracy"), cells, seed)
        self._points = {name: self.strata.points(margins) for name, margins in self._margins.items()}
        self.order: Ints = self.strata.order
        self.looks = _doubling(len(self.labels), first)
        self.z = _quantile(len(self.looks) - 1)

    def estimate(self, logits: NDArray[np.float32], n: int | None = None) -> Figures:
        """Return the figures of a compressed model from its logits ``(n, C)`` on ``order[:n]``, in that order.

        ``n`` must be one of ``looks``; rows beyond it are ignored. Raises ``WorkbenchError`` otherwise.
        """
        n = len(logits) if n is None else n
        if n not in self.looks or len(logits) < n:
            raise WorkbenchError(
                f"Cannot estimate from {counted(len(logits), 'row')} of logits at n = {n}; n must be one of "
                f"{self.looks}."
            )
        index = self.order[:n]
        answers = Answers(np.asarray(logits)[:n], self.labels[index], self.predicted[index])
        found = self._exact(answers) if n == len(self.labels) else self._sampled(answers, n)
        return Figures(found["accuracy"], found["agreement"], found["loss"], found.get("top5"))

    def share(self, name: str, look: Look, after: Floats, right: Flags) -> Interval:
        """Return intervals for a share from margins and answers ``(..., n)``, for many models at once."""
        before = self._margins[name][look.index]
        return estimate_share(look, self.z, self._points[name], before, after, right)

    def mean_loss(self, look: Look, loss: Floats) -> Interval:
        """Return intervals for the mean loss from losses ``(..., n)``; one infinite loss makes it infinite."""
        return self.mean(look, loss, np.where(np.isinf(self._loss), 0.0, self._loss))

    def mean(self, look: Look, values: Floats, before: Floats | None = None) -> Interval:
        """Return intervals for the mean of what is never negative, from ``values`` ``(..., n)``.

        ``before`` ``(N,)`` are the dense model's on the whole split, none where it is zero everywhere.
        """
        infinite = np.asarray(np.isinf(values).any(-1))
        change = np.where(np.isinf(values), 0.0, values)
        if before is not None:
            change = change - before[look.index]
        t = _student(self.z, len(look.index) / 4)
        value, low, high = estimate_mean(look, t, 0.0 if before is None else float(before.mean()), change)
        low, high = np.maximum(low, 0), np.maximum(high, 0)
        return Interval(*(np.where(infinite, np.inf, figure) for figure in (np.clip(value, low, high), low, high)))

    def _sampled(self, answers: Answers, n: int) -> dict[str, Estimate]:
        look = self.strata.look(n)
        found = {name: self.share(name, look, answers.margin(name), answers.right(name)) for name in answers.shares}
        found["loss"] = self.mean_loss(look, answers.loss)
        return {
            name: Estimate(float(value), float(low), float(high), n, "sampled", self.split)
            for name, (value, low, high) in found.items()
        }

    def _exact(self, answers: Answers) -> dict[str, Estimate]:
        figures = {name: answers.right(name).mean() for name in answers.shares}
        figures["loss"] = answers.loss.mean()
        return {name: Estimate.exact(float(value), len(self.labels), self.split) for name, value in figures.items()}


def _finite(margins: Floats) -> Floats:
    return np.nan_to_num(margins, nan=0.0, posinf=1e30, neginf=-1e30)


def _check(logits: NDArray[np.float32], labels: Ints, first: int) -> None:
    if logits.ndim != 2 or len(logits) != len(labels) or len(logits) == 0:
        raise WorkbenchError(
            f"The baseline's logits have shape {logits.shape} and there are {len(labels)} labels; "
            "one row of logits is needed for each label, and at least one."
        )
    if first < 2:
        raise WorkbenchError(f"The first look needs at least 2 images, not {first}.")


def _doubling(total: int, first: int) -> tuple[int, ...]:
    sizes = (first * 2**power for power in range(64))
    looks = []
    for size in sizes:
        if size >= total:
            break
        looks.append(size)
    return (*looks, total)


def _quantile(looks: int) -> float:
    """Return the normal quantile for ``looks`` two-sided intervals that hold together."""
    from scipy.special import ndtri

    return float(-ndtri(ERROR / 2 / max(1, looks)))


def _student(z: float, freedom: float) -> float:
    """Return Student's quantile where the normal one is ``z``."""
    from scipy.special import ndtr, stdtrit

    return float(stdtrit(freedom, ndtr(z)))
