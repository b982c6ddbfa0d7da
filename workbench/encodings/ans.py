"""Codes under an asymmetric numeral system: each takes as many bits as its frequency says, fractions too.

Duda 2013, arXiv 1311.2540, by the library constriction (Bamler 2022, arXiv 2201.01741). A Huffman code gives
every symbol whole bits, one at least; where one symbol is nearly certain (the zeros of a pruned layer) that
costs most of what is stored. Here the bytes come within a few of the zero-order entropy; below it where the
symbols are bytes of several codes, since neighbours in a kernel resemble each other.

    offset  bytes
    0       2            the lowest and the highest symbol, l and h
    2       h - l + 1    each one's frequency: 0 for none, else t for a share of 2**((t - 255) / 16) of all
    ...                  32-bit little-endian words of the coder, without the last one's zero bytes
    ...                  zero bytes and a one, up to the size that the frequencies alone say

Frequencies so coarse cost 0.0001 bits a symbol. What it is filled up with, one to three bytes, makes the size known
before anything is coded: a slider that moves waits for the size, and coding takes as long as the search for it. The
formats 2 and 3 do without, and so does ``encode_symbols``. The coder's model is made of the whole numbers they stand
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


#: The first format of the archive that knows codes which are not filled up.
UNFILLED_SINCE = 2

#: What a filled code ends with.
_END = b"\1"

#: Values that a symbol can have.
SYMBOLS = 256


#: Bytes by which a code may exceed what the frequencies say: its first symbol takes up to three as it fills the
#: state, its words end with a whole byte, and then there is the one.
_START = 5
#: The same for each symbol: shares are multiples of 2**-24, which costs 2**-18.5 bytes where there are 256 of them.
_DRIFT = 2.0**-17


class Table(NamedTuple):
    """Frequencies of symbols from ``low`` on, as stored; ``nbytes``: the size of the filled code, with this table."""

    low: int
    frequencies: NDArray[np.uint8]
    nbytes: int


@register
@dataclass(frozen=True, eq=False)
class Ans(Encoding):
    """Codes of at most 8 bits, coded when the bytes are first asked for.

    A symbol is a code, or with ``joined`` a byte in which several lie: of 1, 2 or 4 bits. ``filled`` up are all but
    those of older files.
    """

    kind: ClassVar[str] = "ans"
    since: ClassVar[int] = 4
    inner: Packed
    joined: bool = False
    filled: bool = True

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
        if self._table is None:
            return b""
        code, size = _encode(self._symbols, self._table), self._table.nbytes
        if not self.filled:
            return code
        if len(code) >= size:
            raise EncodingError(f"codes of {self.inner.codes.size} values took {len(code)} bytes of {size}")
        return code.ljust(size - 1, b"\0") + _END

    @once
    def _table(self) -> Table | None:
        known = self.inner.tables
        if self.joined not in known:
            counts = self.inner.byte_counts if self.joined else self.inner.counts
            (known[self.joined],) = tables_of([counts], SYMBOLS if self.joined else 1 << self.inner.bits)
        found: Table | None = known[self.joined]
        return found

    def pack(self) -> bytes:
        return self._bytes

    @property
    def nbytes(self) -> int:
        if not self.filled or "_bytes" in self.__dict__:  # what was read may be as long as it likes
            return len(self._bytes)
        return self._table.nbytes if self._table else 0

    @property
    def entropy_bytes(self) -> float:
        return self.inner.entropy_bytes

    def describe(self) -> dict[str, Any]:
        flags = {"joined": self.joined, "filled": self.filled}
        return {"kind": self.kind, "bits": self.inner.bits, **{flag: True for flag, is_set in flags.items() if is_set}}

    @classmethod
    def first_format(cls, description: Description) -> int:
        return cls.since if description.get("filled") is True else UNFILLED_SINCE

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Ans:
        bits = read_field(description, "bits", int)
        if not 1 <= bits <= 8:
            raise EncodingError(f"codes of {bits} bits have no table of frequencies")
        joined, filled = (description.get(flag) is True for flag in ("joined", "filled"))
        code = data
        if filled and data:
            if not data.endswith(_END):
                raise EncodingError("coded values are damaged: they do not end as they are filled up")
            code = data[: -len(_END)].rstrip(b"\0")
        if joined:
            size = Packed.size_of({"bits": bits}, shape)
            inner = Packed.unpack({"bits": bits}, shape, decode_symbols(code, size, 256).tobytes())
        else:
            inner = Packed(decode_symbols(code, math.prod(shape), 1 << bits).reshape(shape), bits)
        found = cls(inner, joined, filled)
        found.__dict__["_bytes"] = bytes(data)
        return found


def encode_symbols(symbols: Array) -> bytes:
    """Code flat symbols (uint8); nothing stays nothing."""
    (table,) = tables_of([np.bincount(symbols)], SYMBOLS)
    return _encode(symbols, table) if table else b""


def tables_of(counts: Iterable[NDArray[np.int64]], symbols: int) -> list[Table | None]:
    """Return a table for each row of counts of at most so many symbols; None for one of nothing."""
    given = list(counts)
    rows = np.zeros((len(given), symbols), np.int64)
    for row, own in zip(rows, given, strict=True):
        row[: len(own)] = own
    tables = Tables(rows)
    return [tables.row(place) for place in range(len(given))]


class Tables:
    """Tables for rows of ``counts`` (rows, symbols), worked out all at once: each alone would be a dozen calls.

    What comes out for one does not depend on the others. ``nbytes`` (rows): the size of each one's filled code.
    """

    def __init__(self, counts: NDArray[np.int64]) -> None:
        totals, used = counts.sum(1), counts > 0
        # each count's share of all, rounded to a sixteenth of a power of two
        steps = np.log2(np.maximum(counts, 1))
        steps -= np.array([math.log2(max(1, total)) for total in totals.tolist()])[:, None]
        steps *= _STEPS
        steps += 255
        np.rint(steps, out=steps)
        np.maximum(steps, 1, out=steps)
        steps *= used
        self._frequencies = steps.astype(np.uint8)
        every = np.maximum(_WEIGHTS[self._frequencies].sum(1), 1)
        bits = totals * np.log2(every) - (counts * _WIDTHS[self._frequencies]).sum(1)
        self._low, self._end = used.argmax(1), counts.shape[1] - used[:, ::-1].argmax(1)
        is_news = self._end - self._low > 1
        self.nbytes = np.where(is_news, bits / 8 + _START + totals * _DRIFT, 1.0).astype(np.int64)
        self.nbytes += 2 + self._end - self._low
        self.nbytes[totals == 0] = 0
        self._is_empty = totals == 0

    def row(self, place: int) -> Table | None:
        """Return one row's table; None where it counts nothing."""
        if self._is_empty[place]:
            return None
        low, end = int(self._low[place]), int(self._end[place])
        return Table(low, self._frequencies[place, low:end], int(self.nbytes[place]))


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
