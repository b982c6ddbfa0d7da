"""How sure the order of a sweep's layers is, and which cells would make it surer.

Most layers of a network lose less than a point at all but the harshest levels, so that intervals of a point leave
their order open, however narrow for their purpose. What a layer is ranked by is the accuracy it loses in the mean over
the levels. That mean is far better known than its parts, and a difference of two layers is too, since all cells run the
same images: their errors go together. So the covariance of the layers' means is taken from the images' own answers,
layers are drawn from it many times, and each draw is ranked. Spearman's correlation of a draw's ranks with the ranks
as they stand says how near they are to the order on all images.

*Where to go on.* Spearman's correlation is 1 − 6 Σ d² / (m³ − m) for m layers, so the expected squared displacement of
a layer is just what it takes from it. It is shared among the layer's cells by what each adds to the variance of its
mean; that times how much of it the next look removes, over what the look costs, tells the cells apart.

*Variance.* Of stratified, nested samples without replacement: two cells that were run on n_a ≤ n_b images of a stratum
of N covary by S (1 / n_b − 1 / N), where S is the covariance of their flips in it. The strata's mean flips are pooled
with their neighbours', as for the intervals. ``UNSEEN`` keeps cells without any flip from being taken for certain.

Replayed on ResNet-20 (22 layers × 9 ratios, populations made of 640 images' answers, 12 orders): to ± 1 point the ranks
correlate by 0.92 (0.86 at least) with those on all images, at 5 % of the images; with cells gone on to 0.95, by 0.98
(0.97 at least) at 10 %. What is expected is 0.98, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.measure.strata import Flags, Floats, Ints, Look, Strata

#: Rank correlation with the order on all images that is asked for where intervals are.
ORDER = 0.95
#: The share of the draws that must reach it.
SURE = 0.9
#: Below so many layers a single exchange is more than can be allowed, and the intervals are all there is.
LEAST_LAYERS = 5
#: Draws of the layers' means.
DRAWS = 256
#: Squared flips of n images that a cell's mean may be off by where none was seen.
UNSEEN = 0.1
#: The share of the displacement that is gone about before the order is looked at again.
STEP = 0.5


@dataclass(frozen=True)
class Standing:
    """What is known of the order: each layer's ``score`` ``(layers,)``, its mean accuracy over the levels.

    ``covariance`` ``(layers, layers)`` of the scores, and ``parts`` ``(layers, levels)``: what each cell adds to the
    variance of its layer's score.
    """

    score: Floats
    covariance: Floats
    parts: Floats

    def ranks(self) -> tuple[Floats, Floats]:
        """Return the rank correlation of each draw ``(DRAWS,)``, and each layer's mean squared displacement."""
        moved = (self._drawn_ranks() - _rank(self.score)) ** 2
        layers = len(self.score)
        return np.asarray(1 - 6 * moved.sum(1) / (layers**3 - layers)), np.asarray(moved.mean(0))

    @property
    def sure_of(self) -> float:
        """The rank correlation with the order on all images that ``SURE`` of the draws reach."""
        return float(np.quantile(self.ranks()[0], 1 - SURE))

    @property
    def places(self) -> Ints:
        """Each layer's place in the order and between which it lies in 95 % of the draws, ``(layers, 3)``.

        1 is the most sensitive layer.
        """
        drawn = self._drawn_ranks()
        span = np.quantile(drawn, (0.025, 0.975), axis=0, method="nearest")
        at = _rank(self.score)
        return np.stack([at, np.minimum(span[0], at), np.maximum(span[1], at)], axis=1) + 1

    def _drawn_ranks(self) -> Ints:
        """Return the layers' ranks in each draw, ``(DRAWS, layers)``; 0 is the lowest score."""
        values, vectors = np.linalg.eigh(self.covariance)
        root = vectors * np.sqrt(np.maximum(values, 0))
        drawn = self.score + np.random.default_rng(0).standard_normal((DRAWS, len(self.score))) @ root.T
        return _rank(drawn)


def find_standing(strata: Strata, right: Flags, before: Flags, value: Floats, n: Ints) -> Standing:
    """Return what the answers say of the layers' order.

    ``value`` ``(layers, levels)`` are the cells' accuracies, on ``n`` images each; a cell that ran the whole set is
    exact. ``right`` ``(layers, levels, images)`` are the others' answers in the strata's order, of which each cell's
    first ``n`` are filled in, and ``before`` ``(images,)`` the dense model's.
    """
    layers, levels = n.shape
    looks = {size: strata.look(size) for size in sorted({int(size) for size in n.ravel()} - {len(strata.cells)})}
    parts, covariance = np.zeros(n.shape), np.zeros((layers, layers))
    flips: dict[int, Floats] = {}
    for size, look in looks.items():
        inside = n == size
        each = np.where(inside[:, :, None], right[:, :, :size].astype(np.int8) - before[:size].astype(np.int8), 0)
        flips[size] = each.sum(1, dtype=np.float64)
        weights = _spread(look, look)[strata.cells[look.index]]
        parts += np.maximum(np.einsum("lvi,li->lv", each, flips[size] * weights), 0)
        parts += np.where(inside, UNSEEN * look.unseen.mean() / size**2, 0)
        covariance += np.diag(inside.sum(1) * UNSEEN * look.unseen.mean() / size**2)
        for fewer in (known for known in looks if known <= size):
            found = _covary(looks[fewer], look, flips[fewer], flips[size][:, :fewer])
            covariance += found if fewer == size else found + found.T
    return Standing(value.mean(1), (covariance + covariance.T) / 2 / levels**2, parts / levels**2)


def deciding_cells(standing: Standing, n: Ints, looks: tuple[int, ...], costs: Floats) -> NDArray[np.bool_]:
    """Return the cells ``(layers, levels)`` to take one look further, those that help most for what they cost.

    ``costs`` ``(layers, 1)`` are of one image in a cell. None is chosen once all are as far as ``looks`` go.
    """
    _, displacement = standing.ranks()
    after = np.append(np.array(looks), looks[-1])[np.searchsorted(looks, n, side="right")]
    whole = looks[-1]
    # what is left of a variance at the next look: 1 / n − 1 / N of both
    left = np.where(after >= whole, 0, n * (whole - after) / np.maximum(after * (whole - n), 1))
    variance = np.maximum(np.diag(standing.covariance), 1e-300)[:, None]
    gain = displacement[:, None] * standing.parts / variance * (1 - left)
    gain[n >= whole] = 0
    if not gain.any():
        return np.zeros(n.shape, np.bool_)
    worth = np.where(gain > 0, gain / np.maximum((after - n) * costs, 1), 0)
    order = np.argsort(-worth, axis=None, kind="stable")
    reached = np.cumsum(gain.ravel()[order])
    chosen = np.zeros(n.size, np.bool_)
    chosen[order[: int(np.searchsorted(reached, STEP * reached[-1])) + 1]] = True
    return np.asarray(chosen.reshape(n.shape) & (gain > 0))


def _covary(few: Look, many: Look, ours: Floats, theirs: Floats) -> Floats:
    """Return the covariances ``(layers, layers)`` of means over ``few`` and over ``many``, from flips on ``few``."""
    cells = few.strata.cells[few.index]
    second = (ours * _spread(few, many)[cells]) @ theirs.T
    kernel = few.kernel(max(0.7, 2.5 * len(few.counts) / 64 * math.sqrt(len(few.counts) / len(few.index))))
    pooled = kernel @ few.counts
    mine, other = (few.totals(each) @ kernel / pooled for each in (ours, theirs))
    return np.asarray(second - (mine * _spread(few, many) * few.counts) @ other.T)


def _spread(few: Look, many: Look) -> Floats:
    """Return what a product of flips on one image of each cell counts in the covariance, ``(H,)``."""
    sizes = few.strata.sizes
    share = sizes / len(few.strata.cells)
    return np.asarray(share**2 * (1 / many.counts - 1 / sizes) / few.counts)


def _rank(values: Floats) -> Ints:
    return np.asarray(np.argsort(np.argsort(values, axis=-1, kind="stable"), axis=-1, kind="stable"), np.int64)
