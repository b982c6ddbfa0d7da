"""The smallest encoding of tensors of which some values may be left out, for many tensors at once.

What is tried, and why, is told in ``smallest``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.base import Array, Encoding, zero_order_bytes
from workbench.encodings.dense import Dense, nonzero_bits
from workbench.encodings.integers import count_bytes
from workbench.encodings.smallest import NESTING_BYTES, as_codes, smaller, smallest_sparse
from workbench.encodings.sparse import Mask
from workbench.encodings.ways import Joint, Numbers, Ways

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

#: Where the code that is left out differs from channel to channel, one code for all takes more than a mask and what is
#: left. Zstandard wins back some of that by the runs in a channel, half of it at most on the zoo's models, unless
#: nearly all is left out. Where even a quarter is more than what the mask costs, all codes are not coded at all.
LEAST = 0.25
#: Bits from which on a byte holds one code. Of fewer, neighbours resemble each other, and all codes may be the smaller.
ALONE = 5


class Sparsable(ABC):
    """A tensor of which some values may be left out."""

    @classmethod
    @abstractmethod
    def smallest_of(cls, tensors: Sequence[Self]) -> list[Encoding]:
        """Return the smallest encoding of each; what comes out for one does not depend on the others."""


class Whole(Sparsable):
    """Codes of which none is left out."""

    def __init__(self, codes: Array, bits: int) -> None:
        self.codes, self.bits = as_codes(codes, bits, are_joined=True), bits

    @classmethod
    def smallest_of(cls, tensors: Sequence[Self]) -> list[Encoding]:
        return _by_kind(tensors, lambda one: one.bits, lambda bits, alike: _whole([one.codes for one in alike], bits))


class Around(Sparsable):
    """Codes of which those are left out where ``left`` is False, whatever they are."""

    def __init__(self, codes: Array, bits: int, left: Mask) -> None:
        self.values, self.bits, self.left = _survivors(as_codes(codes, bits, are_joined=True), left), bits, left

    @classmethod
    def smallest_of(cls, tensors: Sequence[Self]) -> list[Encoding]:
        values = Whole.smallest_of([Whole(one.values, one.bits) for one in tensors])
        index = _indices([one.left for one in tensors])
        return [
            smallest_sparse(one.left, value, index.encoding(place), bool(index.patterned[place]))
            for place, (one, value) in enumerate(zip(tensors, values, strict=True))
        ]


class PartlyBlank(Sparsable):
    """Codes of which a sparse encoding leaves out those that are blank; what is left fits in ``narrow`` bits."""

    def __init__(
        self, codes: Array, bits: int, mask: Mask | None, background: ArrayLike, narrow: int | None = None
    ) -> None:
        self.bits, self.narrow = bits, narrow or bits
        self.codes = as_codes(codes, bits, are_joined=True)
        self.blank: Any = (
            background if isinstance(background, np.integer) else _single(as_codes(np.asarray(background), bits))
        )
        if mask is not None:
            self.codes = np.asarray(self.codes * mask + self.blank * ~mask)  # much faster than np.where

    @property
    def has_one_blank(self) -> bool:
        """Whether the same code is left out everywhere."""
        return not isinstance(self.blank, np.ndarray)

    @classmethod
    def smallest_of(cls, tensors: Sequence[Self]) -> list[Encoding]:
        return _by_kind(tensors, lambda one: (one.bits, one.narrow, one.has_one_blank), _smallest_alike)


class PartlyZero(Sparsable):
    """Values kept as they are, of which a sparse encoding leaves out those that are plus zero."""

    def __init__(self, dense: Dense) -> None:
        self.dense = dense

    @classmethod
    def smallest_of(cls, tensors: Sequence[Self]) -> list[Encoding]:
        left = [nonzero_bits(one.dense.values) for one in tensors]
        index = _indices(left)
        itemsize = np.array([one.dense.values.dtype.itemsize for one in tensors])
        saved = (index.counts[:, 0] * itemsize).astype(np.float64)
        # no index is below a random mask's entropy
        tried = (saved > index.entropies) & (index.patterned | (index.nbytes + NESTING_BYTES < saved))
        found: list[Encoding] = [one.dense for one in tensors]
        for place in np.flatnonzero(tried).tolist():
            whole, mask = tensors[place].dense, left[place]
            values = Dense(_survivors(whole.values, mask), whole.type)
            sparse = smallest_sparse(mask, values, index.encoding(place), bool(index.patterned[place]))
            found[place] = smaller(whole, sparse)
        return found


def _by_kind(
    tensors: Sequence[T], kind: Callable[[T], K], find: Callable[[K, list[T]], list[Encoding]]
) -> list[Encoding]:
    """Return what ``find`` finds for the tensors of each kind, in their order."""
    alike: dict[K, list[int]] = defaultdict(list)
    for place, one in enumerate(tensors):
        alike[kind(one)].append(place)
    found: dict[int, Encoding] = {}
    for key, places in alike.items():
        found.update(zip(places, find(key, [tensors[place] for place in places]), strict=True))
    return [found[place] for place in range(len(tensors))]


def _whole(codes: Sequence[Array], bits: int) -> list[Encoding]:
    ways = Ways(Joint(codes, bits))
    return [ways.encoding(place) for place in range(len(codes))]


def _single(values: Array) -> Any:
    """Return one number where all are equal."""
    return values.flat[0] if values.size and (values.size == 1 or (values == values.flat[0]).all()) else values


def _smallest_alike(kind: tuple[int, int, bool], tensors: Sequence[PartlyBlank]) -> list[Encoding]:
    bits, narrow, has_one_blank = kind
    left = [np.not_equal(one.codes, one.blank) for one in tensors]
    index = _indices(left)
    kept, sizes = index.counts[:, 1], index.counts.sum(1)
    # where one code is left out, and enough values are left, no sparse encoding around a random mask is smaller
    tried = (kept < sizes) & (index.patterned | (kept < 64 << bits) | (not has_one_blank))
    places = np.flatnonzero(tried)
    values = {place: _survivors(tensors[place].codes, left[place]) for place in places.tolist()}
    joint, counts, few = None, None, None
    if has_one_blank and bits <= 8:
        blanks = np.array([one.blank for one in tensors], np.intp)
        joint = Joint([one.codes for one in tensors], bits)
        counts = _counts(joint, blanks, left, kept, values)
        few = counts[places]
        few[np.arange(len(places)), blanks[places]] = 0
        few = few[:, : 1 << narrow]
    survivors = Ways(Joint(list(values.values()), narrow), few)
    sparse = index.nbytes[places] + survivors.nbytes
    whole = np.ones(len(tensors), np.bool_)
    if not has_one_blank and ALONE <= bits <= 8:
        left_out = sizes[places] - kept[places]
        shares = _shares([tensors[place].blank for place in places.tolist()], 1 << bits)
        apart = index.entropies[places] + survivors.entropies
        together = zero_order_bytes(survivors.counts + left_out[:, None] * shares)
        least = apart + (together - apart) * LEAST
        nearly_all = kept[places] * 4 < sizes[places]
        whole[places] = index.patterned[places] | (sparse + NESTING_BYTES >= least) | nearly_all
    wholes = np.flatnonzero(whole).tolist()
    dense = Ways(joint or Joint([tensors[place].codes for place in wholes], bits), counts)
    found: dict[int, Encoding] = {place: dense.encoding(row) for row, place in enumerate(wholes)}
    for row, place in enumerate(places.tolist()):
        best, patterned = found.get(place), bool(index.patterned[place])
        if best is None or patterned or sparse[row] + NESTING_BYTES < best.nbytes:
            other = smallest_sparse(left[place], survivors.encoding(row), index.encoding(place), patterned)
            found[place] = other if best is None else smaller(best, other)
    return [found[place] for place in range(len(tensors))]


def _shares(blanks: Sequence[Array], symbols: int) -> NDArray[np.float64]:
    """Return what share of what is left out each code is, as if of each channel as much were."""
    rows = [np.bincount(blank.ravel(), minlength=symbols) / blank.size for blank in blanks]
    return np.array(rows).reshape(len(blanks), symbols)


def _indices(left: Sequence[Mask]) -> Ways:
    """Return the ways to keep the bits of masks."""
    return Ways(Joint([one.ravel().view(np.uint8) for one in left], 1), are_masks=True)


def _survivors(codes: Array, left: Mask) -> Array:
    return codes.ravel().take(np.flatnonzero(left))


def _counts(
    joint: Joint, blanks: NDArray[np.intp], left: Sequence[Mask], kept: Numbers, values: Mapping[int, Array]
) -> Numbers:
    """Return how often each code occurs.

    What the processor counts slowest is one code that is most of a tensor: then what is left is counted instead.
    """
    if joint.bits <= 4:
        return joint.counts()
    rows = []
    for place, one in enumerate(joint.parts):
        survivors = values.get(place)
        if survivors is None and kept[place] * 2 < one.size:
            survivors = _survivors(one, left[place])
        rows.append(count_bytes(one if survivors is None else survivors, 1 << joint.bits))
        rows[-1][blanks[place]] = one.size - kept[place]
    return np.array(rows)
