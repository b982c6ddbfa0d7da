"""Convolution weights as chains of more than two links: Tucker, CP and tensor-train decompositions.

A weight is ``(out, in, kernel axes)``. What each link convolves over is told in ``models.factors``. Tucker and
tensor train start from the weight in the principal directions of each axis (De Lathauwer et al. 2000, HOSVD), which
does not depend on the ranks: kept, it lets a slider truncate. One round of alternating least squares (HOOI) then
comes within a few thousandths of the error where it settles. CP has no such start: TensorLy takes seconds for it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.models.factors import Scheme
from workbench.run.one_thread import one_blas_thread

Array = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ranks = tuple[int, ...]

#: Ranks grow together, in so many steps.
SHARES = 1024
#: CP's alternating least squares stops after so many rounds, or where the error hardly falls.
ROUNDS, TOLERANCE = 100, 1e-6
#: What keeps its equations solvable where components coincide.
RIDGE = 1e-9


def full_ranks(scheme: Scheme, shape: tuple[int, ...]) -> Ranks:
    """Return the ranks beyond which nothing more is told.

    One for ``cp``; outputs and inputs for ``tucker2``; outputs, inputs and kernel axes for ``tucker``; for
    ``tt`` the bonds of the train input, kernel axes, output.
    """
    outputs, inputs, *kernel = shape
    if scheme == "cp":
        return (math.prod(shape) // max(shape),)
    if scheme == "tucker2":
        return (min(outputs, math.prod(shape[1:])), min(inputs, math.prod(shape) // inputs))
    if scheme == "tucker":
        return tuple(min(size, math.prod(shape) // size) for size in shape)
    train = (inputs, *kernel, outputs)
    return tuple(min(math.prod(train[:cut]), math.prod(train[cut:])) for cut in range(1, len(train)))


def attained(scheme: Scheme, ranks: Ranks, shape: tuple[int, ...]) -> Ranks:
    """Return ``ranks`` cut down to what they leave each other: none is above the product of those it meets."""
    outputs, inputs, *kernel = shape
    if scheme == "cp":
        return ranks
    if scheme == "tt":
        train, bonds = (inputs, *kernel, outputs), [1, *ranks, 1]
        for place in range(1, len(train)):
            bonds[place] = min(bonds[place], bonds[place - 1] * train[place - 1])
        for place in range(len(train) - 1, 0, -1):
            bonds[place] = min(bonds[place], bonds[place + 1] * train[place])
        return tuple(bonds[1:-1])
    rest = math.prod(kernel) if scheme == "tucker2" else 1
    found = list(ranks)
    for _ in found:  # what one loses may cost another
        found = [min(rank, rest * math.prod(found[:place] + found[place + 1 :])) for place, rank in enumerate(found)]
    return tuple(found)


def widths_of(scheme: Scheme, ranks: Ranks, kernel: tuple[int, ...]) -> Ranks:
    """Return the channels between one link and the next."""
    if scheme == "cp":
        return ranks * (len(kernel) + 1)
    if scheme == "tucker2":
        outputs, inputs = ranks
        return (inputs, outputs)
    if scheme == "tucker":
        outputs, inputs, *axes = ranks
        return (*(inputs * math.prod(axes[:count]) for count in range(len(axes) + 1)), outputs)
    return ranks


def weights_of(scheme: Scheme, ranks: Ranks, shape: tuple[int, ...]) -> int:
    """Return how many weights the links have."""
    outputs, inputs, *kernel = shape
    widths = widths_of(scheme, ranks, tuple(kernel))
    total = inputs * widths[0] + widths[-1] * outputs
    if scheme == "tucker2":
        return total + widths[0] * widths[1] * math.prod(kernel)
    apart = scheme in ("cp", "tucker")
    steps = zip(pairwise(widths[: len(kernel) + 1]), kernel, strict=True)
    total += sum(width * size * (1 if apart else before) for (before, width), size in steps)
    return total + (widths[-2] * widths[-1] if scheme == "tucker" else 0)


@lru_cache(maxsize=1024)  # a model's layers are of few shapes
def ranks_for(scheme: Scheme, shape: tuple[int, ...], most: int, multiple: int) -> Ranks:
    """Return the largest ranks, all the same share of the full ones, whose links have at most ``most`` weights."""
    full = full_ranks(scheme, shape)

    def ranks(share: float) -> Ranks:
        return attained(scheme, tuple(_snapped(share * rank, rank, multiple) for rank in full), shape)

    shares = range(1, SHARES + 1)
    fitting = bisect_right(shares, most, key=lambda share: weights_of(scheme, ranks(share / SHARES), shape))
    return ranks(max(1, fitting) / SHARES)


def _snapped(rank: float, full: int, multiple: int) -> int:
    if full < multiple:
        return max(1, min(full, int(rank)))
    return min(full, max(multiple, int(rank) // multiple * multiple))


@dataclass(frozen=True, eq=False)
class Hosvd:
    """A weight in the principal directions of its axes: ``scale`` times ``core``, turned by each of ``axes``.

    ``core`` has the weight's shape; each of ``axes`` is ``(size, size)``, the directions that tell most first.
    """

    axes: tuple[Doubles, ...]
    core: Doubles
    scale: float

    @classmethod
    def of(cls, weight: Array) -> Hosvd:
        """Return it of any weight."""
        core, scale = _even(weight)
        with one_blas_thread(weight.size):
            axes = tuple(_principal(_unfolded(core, axis)) for axis in range(weight.ndim))
            for axis, directions in enumerate(axes):
                core = _along_axis(core, directions, axis)
        return cls(axes, np.ascontiguousarray(core), scale)

    @cached_property
    def taps(self) -> Doubles:
        """The directions of all kernel axes together, ``(taps, taps)``."""
        found: Doubles = np.ones((1, 1))
        for directions in self.axes[2:]:
            found = np.asarray(np.kron(found, directions), np.float64)
        return found

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self.core.nbytes + sum(directions.nbytes for directions in self.axes)


def decompose(scheme: Scheme, weight: Array, ranks: Ranks, hosvd: Hosvd | None = None) -> list[Array]:
    """Return the links' weights, as ``models.factors.compose`` takes them; ``hosvd`` is the weight's."""
    if scheme == "cp":
        even, scale = _even(weight)
        first, *rest = _cp(even, ranks)
    else:
        hosvd = Hosvd.of(weight) if hosvd is None else hosvd
        scale = hosvd.scale
        with one_blas_thread(weight.size):
            first, *rest = _FROM_DIRECTIONS[scheme](hosvd, ranks)
    return [np.ascontiguousarray(link, np.float32) for link in (first * scale, *rest)]


def _even(weight: Array) -> tuple[Doubles, float]:
    """Return the weight on an even scale, and the scale.

    What is nearly zero has no directions to tell apart; of zeros all links are zero.
    """
    scale = float(np.abs(weight).max())
    return (weight.astype(np.float64) / scale if scale else np.ones(weight.shape)), scale


def _unfolded(weight: Doubles, axis: int) -> Doubles:
    return np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)


def _principal(matrix: Doubles) -> Doubles:
    """Return the left singular vectors, the largest values' first."""
    return np.ascontiguousarray(np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1])


def _along_axis(weight: Doubles, factor: Doubles, axis: int) -> Doubles:
    """Return the weight with one axis in the coordinates of ``factor`` (size, rank)."""
    if axis > 1:  # of a kernel axis: one product of all taps, rather than thousands of tiny ones
        return np.moveaxis(np.tensordot(weight, factor, (axis, 0)), -1, axis)
    before, after = weight.shape[:axis], weight.shape[axis + 1 :]
    found = factor.T @ weight.reshape(-1, weight.shape[axis], math.prod(after))
    return found.reshape(*before, factor.shape[1], *after)


def _fitted(hosvd: Hosvd, ranks: Ranks) -> tuple[Doubles, list[Doubles]]:
    """Return core and factors of the first axes, each of these fitted to the others once."""
    core, factors = hosvd.core, []  # the core in the coordinates of the factors that are fitted already
    for axis, rank in enumerate(ranks):
        factor = hosvd.axes[axis]
        if rank < len(factor):
            rest = core[tuple(slice(most) if other > axis else slice(None) for other, most in enumerate(ranks))]
            own = _principal(_unfolded(rest, axis))[:, :rank]
            core, factor = _along_axis(core, own, axis), factor @ own
        factors.append(factor)
    return core, factors


def _tucker2(hosvd: Hosvd, ranks: Ranks) -> list[Any]:
    core, (outputs, inputs) = _fitted(hosvd, ranks)
    core = (core.reshape(*ranks, -1) @ hosvd.taps.T).reshape(core.shape)
    points = (1,) * (core.ndim - 2)
    return [inputs.T.reshape(*inputs.T.shape, *points), core, outputs.reshape(*outputs.shape, *points)]


def _tucker(hosvd: Hosvd, ranks: Ranks) -> list[Any]:
    core, (outputs, inputs, *kernel) = _fitted(hosvd, ranks)
    points = (1,) * (core.ndim - 2)
    links, width = [inputs.T.reshape(*inputs.T.shape, *points)], inputs.shape[1]
    for axis, factor in enumerate(kernel):
        # each channel so far becomes one for every component of the axis
        links.append(_along(np.tile(factor.T, (width, 1))[:, None], axis, len(kernel)))
        width *= factor.shape[1]
    links.append(core.reshape(len(core), -1, *points))
    return [*links, outputs.reshape(*outputs.shape, *points)]


def _cp(weight: Any, ranks: Ranks) -> list[Any]:
    from tensorly.decomposition import parafac

    scales, (outputs, inputs, *axes) = parafac(
        weight, rank=ranks[0], init="svd" if ranks[0] <= min(weight.shape) else "random",
        n_iter_max=ROUNDS, tol=TOLERANCE, l2_reg=RIDGE, normalize_factors=True, random_state=0,
    )  # fmt: skip
    points = (1,) * (weight.ndim - 2)
    # the scales are spread over the two ends, so that no link's weights dwarf another's
    roots = np.sqrt(scales)
    links = [(inputs * roots).T.reshape(ranks[0], -1, *points)]
    links += [_along(factor.T[:, None], axis, len(axes)) for axis, factor in enumerate(axes)]
    return [*links, (outputs * roots).reshape(-1, ranks[0], *points)]


def _tt(hosvd: Hosvd, ranks: Ranks) -> list[Any]:
    outputs, inputs, *kernel = hosvd.axes
    inputs, outputs = inputs[:, : ranks[0]], outputs[:, : ranks[-1]]
    points = (1,) * len(kernel)
    left = np.moveaxis(hosvd.core[: ranks[-1], : ranks[0]], 0, -1)  # (bond, kernel axes, bond)
    links = [inputs.T.reshape(*inputs.T.shape, *points)]
    for axis, bond in enumerate(ranks[1:-1]):
        rows = left.reshape(len(left) * len(kernel[axis]), -1)
        part = _principal(rows)[:, :bond]
        taps = kernel[axis] @ part.reshape(len(left), len(kernel[axis]), -1)
        links.append(_along(taps.transpose(2, 0, 1), axis, len(kernel)))
        left = (part.T @ rows).reshape(-1, *left.shape[2:])
    taps = kernel[-1] @ left
    links.append(_along(taps.transpose(2, 0, 1), len(kernel) - 1, len(kernel)))
    return [*links, outputs.reshape(*outputs.shape, *points)]


def _along(taps: Any, axis: int, axes: int) -> Any:
    """Return ``(outputs, inputs, size)`` with the last dimension put on one of ``axes`` kernel axes."""
    shape = [1] * axes
    shape[axis] = taps.shape[2]
    return taps.reshape(*taps.shape[:2], *shape)


_FROM_DIRECTIONS: dict[Scheme, Callable[[Hosvd, Ranks], list[Any]]] = {
    "tucker2": _tucker2, "tucker": _tucker, "tt": _tt,
}  # fmt: skip
