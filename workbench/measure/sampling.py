"""Accuracy from the first few images, with an interval that holds at every look.

*Setting.* A split has N images whose labels and baseline logits are known. A compressed model is run on
them in a fixed random order; after n = 64, 128, 256, ... images (the *looks*) a figure for the whole
split is shown with an interval. The last look has run every image and is exact.

*Order and estimator.* Images are cut into cells along the baseline's margin (``strata``), so that small
margins are drawn more often, and the estimate adds each cell's mean times its size. All images of a cell
are right under the baseline, or all are wrong, so this is at the same time the regression-paired
estimator with a coefficient of its own for each cell: the baseline's correctness is constant there.
Near the baseline the cells' variances vanish, and for a wrecked model it is plain stratified sampling.
It is unbiased over the orders; no model of the flips enters the value.

*Variance.* The rate of right answers in each cell is needed for the variance only. It is pooled from
(a) the sampled answers of neighbouring cells, (b) the rate predicted by how far the sampled margins
moved, worth four images (``shares.TRUST``), and (c) a tenth of a flip among n images, anywhere. (b) is
what keeps zero observed flips from meaning zero variance: on 64 images one may see no flip and yet 64
changes of margin, and their spread against an unsampled image's margin says how likely it flips. (c)
covers flips that have nothing to do with the margin. The variance carries the finite-population factor
of each cell. Few flips make the distribution skewed: an end of the interval is where half² = z² (variance
+ γ half), with γ half the third moment over the second, between Cornish and Fisher's correction (rates
known, 1/3) and the score test (unknown, 1). One image is added to either side for discreteness, and
the interval ends where the images not yet run cannot take it.

*All looks at once.* z is shared by Bonferroni's inequality: 5 % over the looks but the last (8 for 10,000
images, z = 2.73). For a Gaussian estimate that doubles its sample, simulated, 2.67 would do; the 2.5 % in
width buys that the claim does not rest on normality of the joint distribution. The loss has the same
treatment with Student's quantile on n / 4 degrees of freedom. For ``TRUST`` and its neighbours the
guarantee is empirical: ``python -m tests.bench.estimator`` replays stored predictions over random orders and
prints coverage and width in each bin of disagreement.

*Tried and rejected* (LeNets and a ResNet-20 of width 8, 224 recipes or more, 40 to 100 orders each;
half-widths in points at n = 64, mean over recipes that disagree on at most 5 % of the images):

- Predicting every unsampled image from the change of margins (a pure model): its error is hardly
  smaller (0.77 against 1.02 points at 1 to 5 % disagreement) and biased where the model is damaged.
- Rates from pooled answers, with the skewness bounded by the heaviest cell: 5.8, coverage 99 to 100 %.
- γ in full: 3.9 instead of 3.6. Half of the sample in proportion instead of 70 %: 3.5 instead of 3.9, but
  wrecked models get 1.18 times Wilson's width instead of 1.09, and at 60 % with γ 0.35 some recipes drop to
  88 % coverage.
- No allowance (c): 3.6 instead of 4.0, but 3 % of images turned to garbage regardless of margin are
  covered in 79 % of runs instead of 94 %. Three tenths of a flip: 5.8.
- No continuity correction: one late flip among 10,000 went uncovered in up to 80 % of the runs of a recipe.
- Not rescaling the compressed margins: logits divided by ten, which flip nothing, get 11.7 instead of 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
                f"Cannot estimate from {len(logits)} rows of logits at n = {n}; n must be one of {self.looks}."
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
        before = np.where(np.isinf(self._loss), 0.0, self._loss)
        infinite = np.asarray(np.isinf(loss).any(-1))
        change = np.where(np.isinf(loss), 0.0, loss) - before[look.index]
        t = _student(self.z, len(look.index) / 4)
        value, low, high = estimate_mean(look, t, float(before.mean()), change)
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
