"""What the ways to keep the codes of many tensors take, all codes of each: arrays over tensors.

A move of a slider changes every layer, and the same few numbers decide for each. Here they are found for all of them
at once, and objects are made of what was chosen only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from workbench.encodings.ans import SYMBOLS, Ans, Tables
from workbench.encodings.base import Array, Encoding, zero_order_bytes
from workbench.encodings.entropy import Entropy, compress_bytes
from workbench.encodings.integers import BYTE_FILLING, Packed, code_type, codes_in_bytes, count_bytes, pack_array
from workbench.encodings.once import once
from workbench.encodings.smallest import ENTROPY_WIDTHS, JOINED_BYTES, NESTING_BYTES, require_fit

Numbers = NDArray[np.int64]

#: The ways to keep codes without leaving any out.
_PLAIN, _ANS, _JOINED, _ENTROPY = range(4)


class Joint:
    """Codes of many tensors in one array, each from a multiple of eight on, so that they are packed in one go.

    Raises EncodingError where one does not fit into so many bits.
    """

    def __init__(self, codes: Sequence[Array], bits: int) -> None:
        self.codes, self.bits = codes, bits
        self.sizes: Numbers = np.array([one.size for one in codes], np.int64)
        ends = np.cumsum((self.sizes + 7) // 8 * 8).tolist()
        self._starts = [0, *ends][: len(codes)]
        self._whole = np.zeros(ends[-1] if ends else 0, code_type(bits))
        self.parts = [self._whole[start : start + one.size] for start, one in zip(self._starts, codes, strict=True)]
        for part, one in zip(self.parts, codes, strict=True):
            part[...] = one.ravel()
        if bits < 8 and self._whole.size and int(self._whole.max()) >> bits:
            for part in self.parts:
                require_fit(part, bits)

    def counts(self) -> Numbers:
        """Return how often each code of at most 8 bits occurs in each tensor."""
        if self.bits == 1:
            kept = np.array([np.count_nonzero(one.view(np.bool_)) for one in self.parts], np.int64)
            return np.stack([self.sizes - kept, kept], axis=1)
        if self.bits <= 4:  # there are fewer bytes
            width = 4 if self.bits == 3 else self.bits
            counts = (self._byte_counts.astype(np.float64) @ codes_in_bytes(width)).astype(np.int64)  # exact
            counts[:, 0] -= -self.sizes % (8 // width)
            return counts[:, : 1 << self.bits]
        rows = [count_bytes(one, 1 << self.bits) for one in self.parts]
        return np.array(rows, np.int64).reshape(-1, 1 << self.bits)

    def byte_counts(self, places: NDArray[np.intp]) -> Numbers:
        """Return how often each packed byte of some tensors occurs; of codes that fill bytes."""
        if self.bits > 1:
            return self._byte_counts[places]
        packed = self.packed(1)
        rows = [count_bytes(packed[place], SYMBOLS) for place in places.tolist()]
        return np.array(rows, np.int64).reshape(-1, SYMBOLS)

    @once
    def _byte_counts(self) -> Numbers:
        packed = self.packed(4 if self.bits == 3 else self.bits)
        return np.array([count_bytes(one, SYMBOLS) for one in packed], np.int64).reshape(-1, SYMBOLS)

    @once
    def _packed(self) -> dict[int, list[NDArray[np.uint8]]]:
        return {}

    def packed(self, width: int) -> list[NDArray[np.uint8]]:
        """Return each tensor's bytes at so many bits a code."""
        if width not in self._packed:
            whole = pack_array(self._whole, width)
            sizes = ((self.sizes * width + 7) // 8).tolist()
            starts = (start * width // 8 for start in self._starts)
            self._packed[width] = [whole[start : start + size] for start, size in zip(starts, sizes, strict=True)]
        return self._packed[width]


class Ways:
    """What each way to keep all codes of each tensor takes, and which is the smallest; arrays over tensors.

    ``counts`` (tensors, codes) tell how often each code occurs, where that is known. Whole bytes of masks are coded
    only where Zstandard found that they are no random ones.
    """

    def __init__(self, joint: Joint, counts: Numbers | None = None, are_masks: bool = False) -> None:
        self._codes, self._bits = joint.codes, joint.bits
        bits, width = joint.bits, ENTROPY_WIDTHS[joint.bits][0]
        packed = joint.packed(width)
        self._compressed = [compress_bytes(one) for one in packed]
        compressed = np.array([len(one) for one in self._compressed], np.int64)
        plain = (joint.sizes * bits + 7) // 8
        self.nbytes, self._way = plain.copy(), np.zeros(len(packed), np.int64)
        if bits <= 8:
            self.counts = joint.counts() if counts is None else counts
            self.entropies = zero_order_bytes(self.counts)
            self.patterned = compressed < self.entropies
            self._tables, self._joined = Tables(self.counts), None
            coded, way = self._tables.nbytes, np.full(len(packed), _ANS)
            joined = plain >= JOINED_BYTES
            if are_masks:
                joined &= self.patterned
            if bits in BYTE_FILLING and joined.any():
                self._joined_rows = np.cumsum(joined) - 1
                self._joined = Tables(joint.byte_counts(np.flatnonzero(joined)))
                alone = coded[joined]
                pays = self._joined.nbytes + NESTING_BYTES < alone
                coded = coded.copy()
                coded[joined] = np.where(pays, self._joined.nbytes, alone)
                way[joined] = np.where(pays, _JOINED, _ANS)
            self._take(coded, way)
        self._take(compressed, _ENTROPY)
        tiny = plain <= 2 * NESTING_BYTES
        self.nbytes[tiny], self._way[tiny] = plain[tiny], _PLAIN

    def _take(self, nbytes: Numbers, way: Numbers | int) -> None:
        """Take a way where it saves more than its description costs."""
        pays = nbytes + NESTING_BYTES < self.nbytes
        self.nbytes, self._way = np.where(pays, nbytes, self.nbytes), np.where(pays, way, self._way)

    def encoding(self, place: int) -> Encoding:
        """Return the smallest encoding of one tensor."""
        packed, way = Packed.fitting(self._codes[place], self._bits), self._way[place]
        if self._bits <= 8:
            packed.know(self.counts[place], float(self.entropies[place]))
        if way == _PLAIN:
            return packed
        if way == _ENTROPY:
            width = ENTROPY_WIDTHS[self._bits][0]
            wide = packed if width == self._bits else packed.widened(width)
            return Entropy.known(wide, self._compressed[place])
        if way == _JOINED:
            assert self._joined is not None
            packed.tables[True] = self._joined.row(int(self._joined_rows[place]))
            return Ans(packed, joined=True)
        packed.tables[False] = self._tables.row(place)
        return Ans(packed)


def tally(tensors: Iterable[Packed]) -> None:
    """Find counts, entropies and tables of frequencies of ``tensors``, which then need not find their own."""
    widths: dict[int, list[Packed]] = defaultdict(list)
    for one in tensors:
        if one.bits <= 8 and one.codes.size and False not in one.tables:
            widths[one.bits].append(one)
    for bits, group in widths.items():
        joint = Joint([one.codes for one in group], bits)
        counts = joint.counts()
        entropies, tables = zero_order_bytes(counts).tolist(), Tables(counts)
        for row, one in enumerate(group):
            one.know(counts[row], entropies[row])
            one.tables[False] = tables.row(row)
        if bits in BYTE_FILLING:
            long = np.flatnonzero([one.nbytes >= JOINED_BYTES for one in group])
            joined = Tables(joint.byte_counts(long))
            for row, place in enumerate(long.tolist()):
                group[place].tables[True] = joined.row(row)
