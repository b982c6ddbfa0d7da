"""Convolution weights as chains of more than two links: Tucker, CP and tensor-train decompositions, by TensorLy.

A weight is ``(out, in, kernel axes)``. What each link convolves over is told in ``models.factors``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workbench.models.factors import Scheme

Array = NDArray[np.float32]
Ranks = tuple[int, ...]

#: Alternating least squares stops after so many rounds, or where the error hardly falls.
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


def ranks_for(scheme: Scheme, shape: tuple[int, ...], most: int, multiple: int) -> Ranks:
    """Return the largest ranks, all the same share of the full ones, whose links have at most ``most`` weights."""
    full = full_ranks(scheme, shape)

    def ranks(share: float) -> Ranks:
        return attained(scheme, tuple(_snapped(share * rank, rank, multiple) for rank in full), shape)

    shares = np.linspace(0.0, 1.0, 1025)[1:]
    fitting = [share for share in shares if weights_of(scheme, ranks(share), shape) <= most]
    return ranks(float(fitting[-1]) if fitting else float(shares[0]))


def _snapped(rank: float, full: int, multiple: int) -> int:
    if full < multiple:
        return max(1, min(full, int(rank)))
    return min(full, max(multiple, int(rank) // multiple * multiple))


def decompose(scheme: Scheme, weight: Array, ranks: Ranks) -> list[Array]:
    """Return the links' weights, as ``models.factors.compose`` takes them."""
    scale = float(np.abs(weight).max())
    # an even scale, since what is nearly zero has no directions to tell apart; of zeros all links are zero
    even = weight.astype(np.float64) / scale if scale else np.ones(weight.shape)
    first, *rest = _DECOMPOSE[scheme](even, ranks)
    return [np.ascontiguousarray(link, np.float32) for link in (first * scale, *rest)]


def _tucker2(weight: Any, ranks: Ranks) -> list[Any]:
    from tensorly.decomposition import partial_tucker

    (core, (outputs, inputs)), _ = partial_tucker(
        weight, rank=list(ranks), modes=[0, 1], n_iter_max=ROUNDS, tol=TOLERANCE
    )
    points = (1,) * (weight.ndim - 2)
    return [inputs.T.reshape(*inputs.T.shape, *points), core, outputs.reshape(*outputs.shape, *points)]


def _tucker(weight: Any, ranks: Ranks) -> list[Any]:
    from tensorly.decomposition import tucker

    core, (outputs, inputs, *axes) = tucker(weight, rank=list(ranks), n_iter_max=ROUNDS, tol=TOLERANCE)
    points = (1,) * (weight.ndim - 2)
    links, width = [inputs.T.reshape(*inputs.T.shape, *points)], inputs.shape[1]
    for axis, factor in enumerate(axes):
        # each channel so far becomes one for every component of the axis
        links.append(_along(np.tile(factor.T, (width, 1))[:, None], axis, len(axes)))
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


def _tt(weight: Any, ranks: Ranks) -> list[Any]:
    from tensorly.decomposition import tensor_train

    first, *middle, last = tensor_train(np.moveaxis(weight, 0, -1), rank=[1, *ranks, 1])
    points = (1,) * (weight.ndim - 2)
    links = [first[0].T.reshape(first.shape[2], first.shape[1], *points)]
    links += [_along(core.transpose(2, 0, 1), axis, len(middle)) for axis, core in enumerate(middle)]
    return [*links, last[:, :, 0].T.reshape(last.shape[1], last.shape[0], *points)]


def _along(taps: Any, axis: int, axes: int) -> Any:
    """Return ``(outputs, inputs, size)`` with the last dimension put on one of ``axes`` kernel axes."""
    shape = [1] * axes
    shape[axis] = taps.shape[2]
    return taps.reshape(*taps.shape[:2], *shape)


_DECOMPOSE: dict[Scheme, Callable[[Any, Ranks], list[Any]]] = {
    "tucker2": _tucker2, "tucker": _tucker, "cp": _cp, "tt": _tt,
}  # fmt: skip
