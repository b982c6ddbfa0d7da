"""Codes under an asymmetric numeral system: each takes as many bits as its frequency says, fractions too.

Duda 2013, arXiv 1311.2540, by the library constriction (Bamler 2022, arXiv 2201.01741). A Huffman code gives
every symbol whole bits, one at least; where one symbol is nearly certain (the zeros of a pruned layer) that
costs most of what is stored. Here the bytes come within a few of the zero-order entropy; below it where the
symbols are bytes of several codes, since neighbours in a kernel resemble each other.

    offset  bytes
    0       2            the lowest and the highest symbol, l and h
    2       h - l + 1    each one's frequency: 0 for none, else t for a share of 2**((t - 255) / 16) of all
    ...                  32-bit little-endian words of the coder, without the last one's zero bytes

Frequencies so coarse cost 0.0001 bits a symbol. The coder's model is made of the whole numbers they stand
for, so that it is the same on every machine. A decoder that comes back to the empty state has read what an
encoder wrote; any other end means damage.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.base import Array, Description, Encoding, EncodingError, Shape, read_field, register
from workbench.encodings.integers import BYTE_FILLING, Packed
from workbench.encodings.once import once

#: 2**(i / 16) for i from 0 to 15, in units of 2**-15.
_MANTISSAS = (
    32768, 34219, 35734, 37316, 38968, 40693, 42495, 44376, 46341, 48393, 50535, 52773, 55109, 57549, 60097, 62757,
)  # fmt: skip
_STEPS = len(_MANTISSAS)
#: What each byte of a table of frequencies stands for, as multiples of the least.
_WEIGHTS = np.array([0.0, *(math.ldexp(_MANTISSAS[byte % _STEPS], byte // _STEPS) for byte in range(1, 256))])
#: Their logarithms to the base 2; 0 for a symbol that never occurs.
_WIDTHS = np.log2(np.maximum(_WEIGHTS, 1))


#: Values that a symbol can have.
SYMBOLS = 256


class Table(NamedTuple):
    """Frequencies of symbols from ``low`` on, as they are stored.

    ``expected_bytes`` is the size that they alone say: that of the code, or up to four less, without coding anything.
    """

    low: int
    frequencies: NDArray[np.uint8]
    expected_bytes: float


@register
@dataclass(frozen=True, eq=False)
class Ans(Encoding):
    """Codes of at most 8 bits, coded when the size or the bytes are first asked for.

    A symbol is a code, or with ``joined`` a byte in which several lie: of 1, 2 or 4 bits.
    """

    kind: ClassVar[str] = "ans"
    since: ClassVar[int] = 2
    inner: Packed
    joined: bool = False

    def __post_init__(self) -> None:
        if self.joined and self.inner.bits not in BYTE_FILLING:
            raise EncodingError(f"codes of {self.inner.bits} bits do not fill bytes")
        if self.inner.bits > 8:
            raise EncodingError(f"codes of {self.inner.bits} bits have too many values for a table of frequencies")

    @property
    def shape(self) -> Shape:
        return self.inner.shape

    def decode(self, background: ArrayLike = 0) -> Array:
        return self.inner.decode(background)

    @property
    def _symbols(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.inner.pack(), np.uint8) if self.joined else np.ravel(self.inner.codes)

    @once
    def _bytes(self) -> bytes:
        return _encode(self._symbols, self._table) if self._table else b""

    @once
    def _table(self) -> Table | None:
        known = self.inner.tables
        if self.joined not in known:
            counts = self.inner.byte_counts if self.joined else self.inner.counts
            (known[self.joined],) = tables_of([counts], SYMBOLS if self.joined else 1 << self.inner.bits)
        found: Table | None = known[self.joined]
        return found

    @property
    def expected_bytes(self) -> float:
        """Size that the frequencies alone say: `nbytes`, or up to four less, without coding anything."""
        return self._table.expected_bytes if self._table else 0.0

    def pack(self) -> bytes:
        return self._bytes

    @property
    def bounds(self) -> tuple[float, float]:
        if "_bytes" in self.__dict__:
            return self.nbytes, self.nbytes
        return self.expected_bytes, self.expected_bytes + 4

    @property
    def entropy_bytes(self) -> float:
        return self.inner.entropy_bytes

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "bits": self.inner.bits, **({"joined": True} if self.joined else {})}

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Ans:
        bits = read_field(description, "bits", int)
        if not 1 <= bits <= 8:
            raise EncodingError(f"codes of {bits} bits have no table of frequencies")
        joined = description.get("joined") is True
        if joined:
            size = Packed.size_of({"bits": bits}, shape)
            inner = Packed.unpack({"bits": bits}, shape, decode_symbols(data, size, 256).tobytes())
        else:
            inner = Packed(decode_symbols(data, math.prod(shape), 1 << bits).reshape(shape), bits)
        found = cls(inner, joined)
        found.__dict__["_bytes"] = bytes(data)
        return found


def encode_symbols(symbols: Array) -> bytes:
    """Code flat symbols (uint8); nothing stays nothing."""
    (table,) = tables_of([np.bincount(symbols)], SYMBOLS)
    return _encode(symbols, table) if table else b""


def tables_of(counts: Iterable[NDArray[np.int64]], symbols: int) -> list[Table | None]:
    """Return a table for each row of counts of at most so many symbols; None for one of nothing.

    All at once: each row alone would be a dozen calls on a few numbers. What comes out for one does not depend on
    the others.
    """
    given = list(counts)
    rows = np.zeros((len(given), symbols), np.int64)
    for row, own in zip(rows, given, strict=True):
        row[: len(own)] = own
    totals = rows.sum(1)
    # each count's share of all, rounded to a sixteenth of a power of two
    steps = np.log2(np.maximum(rows, 1))
    steps -= np.array([math.log2(max(1, total)) for total in totals.tolist()])[:, None]
    steps *= _STEPS
    steps += 255
    np.rint(steps, out=steps)
    np.maximum(steps, 1, out=steps)
    steps *= rows > 0
    frequencies = steps.astype(np.uint8)
    every = np.maximum(_WEIGHTS[frequencies].sum(1), 1)
    bits = totals * np.log2(every) - (rows * _WIDTHS[frequencies]).sum(1)
    used = rows > 0
    low, high = used.argmax(1), symbols - used[:, ::-1].argmax(1)
    return [
        Table(start, own[start:end], 2 + end - start + size / 8) if total else None
        for own, start, end, size, total in zip(
            frequencies, low.tolist(), high.tolist(), bits.tolist(), totals.tolist(), strict=True
        )
    ]


def _encode(symbols: Array, table: Table) -> bytes:
    """Code flat symbols under a table of their frequencies."""
    low, frequencies, _ = table
    coder = _coder(None)
    coder.encode_reverse(np.subtract(symbols, np.int32(low), dtype=np.int32), _model(frequencies))
    words: bytes = coder.get_compressed().astype("<u4").tobytes().rstrip(b"\0")
    return bytes([low, low + len(frequencies) - 1]) + frequencies.tobytes() + words


def decode_symbols(data: bytes, size: int, count: int) -> NDArray[np.uint8]:
    """Give back ``size`` symbols below ``count``; raises EncodingError where ``data`` is not what coded them."""
    if not size and not data:
        return np.empty(0, np.uint8)
    low, high = data[:2] if len(data) > 2 else (1, 0)
    end = 3 + high - low
    table = np.frombuffer(data[2:end], np.uint8)
    if not size or not low <= high < count or len(table) < end - 2 or not table.any():
        raise EncodingError("the table of frequencies of coded values is damaged")
    words = data[end:]
    if words.endswith(b"\0"):
        raise EncodingError("coded values are damaged: they end in a byte that no coder writes")
    coder = _coder(np.frombuffer(words + bytes(-len(words) % 4), "<u4").astype(np.uint32))
    symbols = coder.decode(_model(table), size)
    if not coder.is_empty() or symbols.max() >= len(table) or not table[symbols].all():
        raise EncodingError(f"coded values are damaged: they do not end after {size}")
    return np.asarray(symbols + low, np.uint8)


def _model(table: NDArray[np.uint8]) -> Any:
    import constriction

    weights = _WEIGHTS[table]
    # a model has two symbols at least; those that never occur get its smallest probability, 2**-24
    return constriction.stream.model.Categorical(np.append(weights, 0.0), perfect=False)


def _coder(words: NDArray[np.uint32] | None) -> Any:
    import constriction

    return constriction.stream.stack.AnsCoder() if words is None else constriction.stream.stack.AnsCoder(words)
