"""Convolution weights as chains of more than two links: Tucker, CP and tensor-train decompositions.

A weight is ``(out, in, kernel axes)``. What each link convolves over is told in ``models.factors``. Tucker and
tensor train start from the principal directions of each axis (De Lathauwer et al. 2000, HOSVD), which do not
depend on the ranks: kept, they let a slider truncate. One round of alternating least squares (HOOI) then
comes within a few thousandths of the error where it settles. CP has no such start: TensorLy takes seconds for it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import lru_cache
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


def directions(weight: Array) -> list[Doubles]:
    """Return the principal directions of each axis ``(size, size)``, those that tell most first."""
    even, _ = _even(weight)
    with one_blas_thread(weight.size):
        return [_principal(_unfolded(even, axis)) for axis in range(weight.ndim)]


def decompose(scheme: Scheme, weight: Array, ranks: Ranks, axes: Sequence[Doubles] | None = None) -> list[Array]:
    """Return the links' weights, as ``models.factors.compose`` takes them; ``axes`` are the weight's directions."""
    even, scale = _even(weight)
    if scheme == "cp":
        first, *rest = _cp(even, ranks)
    else:
        with one_blas_thread(weight.size):
            first, *rest = _FROM_DIRECTIONS[scheme](even, ranks, directions(weight) if axes is None else axes)
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
    return np.asarray(np.linalg.eigh(matrix @ matrix.T)[1][:, ::-1])


def _along_axis(weight: Doubles, factor: Doubles, axis: int) -> Doubles:
    """Return the weight with one axis in the coordinates of ``factor`` (size, rank)."""
    before, after = weight.shape[:axis], weight.shape[axis + 1 :]
    found = factor.T @ weight.reshape(-1, weight.shape[axis], math.prod(after))
    return found.reshape(*before, factor.shape[1], *after)


def _fitted(weight: Doubles, ranks: Ranks, axes: Sequence[Doubles]) -> tuple[Doubles, list[Doubles]]:
    """Return core and factors of the first axes, each of these fitted to the others once."""
    factors = [directions[:, :rank] for directions, rank in zip(axes, ranks, strict=False)]
    core = weight  # in the coordinates of the factors that are fitted already
    for axis, rank in enumerate(ranks):
        if rank < weight.shape[axis]:
            rest = core
            for other in range(axis + 1, len(ranks)):
                if ranks[other] < weight.shape[other]:  # turned whole, an axis tells the others nothing
                    rest = _along_axis(rest, factors[other], other)
            factors[axis] = _principal(_unfolded(rest, axis))[:, :rank]
        core = _along_axis(core, factors[axis], axis)
    return core, factors


def _tucker2(weight: Doubles, ranks: Ranks, axes: Sequence[Doubles]) -> list[Any]:
    core, (outputs, inputs) = _fitted(weight, ranks, axes)
    points = (1,) * (weight.ndim - 2)
    return [inputs.T.reshape(*inputs.T.shape, *points), core, outputs.reshape(*outputs.shape, *points)]


def _tucker(weight: Doubles, ranks: Ranks, axes: Sequence[Doubles]) -> list[Any]:
    core, (outputs, inputs, *kernel) = _fitted(weight, ranks, axes)
    points = (1,) * (weight.ndim - 2)
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


def _tt(weight: Doubles, ranks: Ranks, axes: Sequence[Doubles]) -> list[Any]:
    inputs, outputs = axes[1][:, : ranks[0]], axes[0][:, : ranks[-1]]
    kernel, points = weight.shape[2:], (1,) * (weight.ndim - 2)
    left = _along_axis(_along_axis(weight, outputs, 0), inputs, 1)
    left = np.moveaxis(left, 0, -1)  # (bond, kernel axes, bond)
    links = [inputs.T.reshape(*inputs.T.shape, *points)]
    for axis, bond in enumerate(ranks[1:-1]):
        rows = left.reshape(len(left) * kernel[axis], -1)
        part = _principal(rows)[:, :bond]
        links.append(_along(part.reshape(len(left), kernel[axis], -1).transpose(2, 0, 1), axis, len(kernel)))
        left = (part.T @ rows).reshape(-1, *left.shape[2:])
    links.append(_along(left.transpose(2, 0, 1), len(kernel) - 1, len(kernel)))
    return [*links, outputs.reshape(*outputs.shape, *points)]


def _along(taps: Any, axis: int, axes: int) -> Any:
    """Return ``(outputs, inputs, size)`` with the last dimension put on one of ``axes`` kernel axes."""
    shape = [1] * axes
    shape[axis] = taps.shape[2]
    return taps.reshape(*taps.shape[:2], *shape)


_FROM_DIRECTIONS: dict[Scheme, Callable[[Doubles, Ranks, Sequence[Doubles]], list[Any]]] = {
    "tucker2": _tucker2, "tucker": _tucker, "tt": _tt,
}  # fmt: skip
