"""Unsigned integers of any width from 1 to 8 bits, or 16, with no bit between them.

Code i takes the bits i*b to (i+1)*b - 1 of the stream, counted from the low end of each byte
(`numpy.packbits(..., bitorder="little")` of the codes' bits); the last byte is filled up with zeros.

Packing moves eight codes at a time: their eight bytes are one 64-bit word, in which neighbours are joined
into pairs, pairs into fours and fours into eights (Hacker's Delight, 2nd ed., 7-4, "compress"), which
leaves 8*b bits at the low end. Every width takes the same handful of passes, a fraction of a millisecond
for a ResNet-20.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.base import (
    Array,
    Description,
    Encoding,
    EncodingError,
    Shape,
    expect_bytes,
    read_field,
    register,
    zero_order_bytes,
)
from workbench.encodings.once import once

WIDTHS = (1, 2, 3, 4, 5, 6, 7, 8, 16)
"""Code widths in bits."""

BYTE_FILLING = (1, 2, 4)
"""Widths of which several codes fill a byte without a gap."""


@register
@dataclass(frozen=True, eq=False)
class Packed(Encoding):
    """Codes from 0 to 2**bits - 1: uint8 up to 8 bits, uint16 at 16."""

    kind: ClassVar[str] = "packed"
    codes: Array
    bits: int

    def __post_init__(self) -> None:
        if self.bits not in WIDTHS:
            raise EncodingError(f"codes of {self.bits} bits cannot be packed; use 1 to 8, or 16")
        if self.codes.dtype != code_type(self.bits):
            raise EncodingError(f"{self.bits}-bit codes are {code_type(self.bits)}, not {self.codes.dtype}")
        if self.bits < 8 and self.codes.size and int(self.codes.max()) >> self.bits:
            raise EncodingError(f"code {self.codes.max()} does not fit in {self.bits} bits")

    @classmethod
    def fitting(cls, codes: Array, bits: int) -> Packed:
        """Keep codes that are known to fit, with no second look at them all: of what was checked already."""
        packed = cls.__new__(cls)
        packed.__dict__.update(codes=codes, bits=bits)
        return packed

    def widened(self, bits: int) -> Packed:
        """The same codes in more bits: what was counted holds."""
        wide = Packed.fitting(self.codes, bits)
        wide.__dict__.update({name: self.__dict__[name] for name in ("counts", "_entropy") if name in self.__dict__})
        return wide

    def know(self, counts: NDArray[np.int64], entropy: float) -> None:
        """Take how often each code occurs, and the entropy of that, from whoever found them."""
        self.__dict__.update(counts=counts, _entropy=entropy)

    @property
    def shape(self) -> Shape:
        return self.codes.shape

    def decode(self, background: ArrayLike = 0) -> Array:
        return self.codes.astype(self.codes.dtype.newbyteorder("="), order="C", copy=True)

    @once
    def _bytes(self) -> bytes:
        return pack_codes(np.ravel(self.codes), self.bits)

    def pack(self) -> bytes:
        return self._bytes

    @property
    def nbytes(self) -> int:
        return (self.codes.size * self.bits + 7) // 8

    @once
    def byte_counts(self) -> NDArray[np.int64]:
        """How often each packed byte occurs, up to the highest that does."""
        return np.bincount(np.frombuffer(self.pack(), np.uint8))

    @once
    def counts(self) -> NDArray[np.int64]:
        """How often each code occurs, up to the highest that does or further."""
        if self.bits not in BYTE_FILLING or not self.codes.size:
            return np.bincount(np.ravel(self.codes))
        counts = self.byte_counts @ codes_in_bytes(self.bits)[: len(self.byte_counts)]  # there are fewer bytes
        counts[0] -= 8 // self.bits * self.nbytes - self.codes.size
        return counts[: int(np.flatnonzero(counts)[-1]) + 1]

    @once
    def _entropy(self) -> float:
        counts = np.zeros(1 << self.bits, np.int64)  # as many as `tally` looks at, so that the sums are the same
        counts[: len(self.counts)] = self.counts
        return float(zero_order_bytes(counts))

    @once
    def tables(self) -> dict[bool, Any]:
        """Tables of frequencies (see `ans`) of the codes (False) and of the packed bytes (True), once found."""
        return {}

    @property
    def entropy_bytes(self) -> float:
        return self._entropy

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "bits": self.bits}

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Packed:
        expect_bytes(cls.kind, data, cls.size_of(description, shape))
        bits = read_field(description, "bits", int)
        size = math.prod(shape)
        return cls(unpack_codes(data, bits, size).reshape(shape), bits)

    @classmethod
    def size_of(cls, description: Description, shape: Shape) -> int:
        bits = read_field(description, "bits", int)
        if bits not in WIDTHS:
            raise EncodingError(f"codes of {bits} bits cannot be packed")
        return (math.prod(shape) * bits + 7) // 8


def count_bytes(values: NDArray[np.uint8], at_least: int) -> NDArray[np.int64]:
    """Return how often each of so many bytes occurs; ``np.bincount`` copies them to eight times their size first."""
    counts: NDArray[np.int64] = torch.bincount(torch.from_numpy(values), minlength=at_least).numpy()
    return counts


def code_type(bits: int) -> np.dtype[Any]:
    """Give the numpy type that codes of this width are held in."""
    return np.dtype(np.uint16 if bits == 16 else np.uint8)


@lru_cache
def codes_in_bytes(bits: int) -> NDArray[np.int64]:
    """Return how often each byte (rows) holds each code (columns)."""
    places = np.arange(256)[:, None] >> np.arange(0, 8, bits) & ((1 << bits) - 1)
    return np.asarray((places[:, :, None] == np.arange(1 << bits)).sum(1), np.int64)


def pack_codes(codes: Array, bits: int) -> bytes:
    """Pack flat codes, each below 2**bits, with no bit between them."""
    return pack_array(codes, bits).tobytes()


def pack_array(codes: Array, bits: int) -> NDArray[np.uint8]:
    """Return what ``pack_codes`` does as an array, which may be the codes themselves."""
    size = (codes.size * bits + 7) // 8
    if bits in (8, 16):
        return np.ascontiguousarray(codes, codes.dtype.newbyteorder("<")).view(np.uint8)
    if bits == 1:
        return np.packbits(codes, bitorder="little")
    if bits in (2, 4):  # all of a byte's codes in one word, in half the time
        each = 8 // bits
        filled = np.append(codes, np.zeros(-codes.size % each, np.uint8)) if codes.size % each else codes
        words = np.ascontiguousarray(filled).view(f"<u{each}")
        for lane in (8, 16)[: each // 2]:
            words = words | (words >> (lane - lane * bits // 8))
        return words.astype(np.uint8)
    words = np.zeros((codes.size + 7) // 8, "<u8")
    words.view(np.uint8)[: codes.size] = codes
    for lane in (8, 16, 32):  # lanes hold lane/8 codes in their low bits; join neighbours
        low = _low_lanes(lane)
        odd = (words >> np.uint64(lane)) & low
        words &= low
        words |= odd << np.uint64(lane * bits // 8)
    return words.view(np.uint8).reshape(-1, 8)[:, :bits].ravel()[:size]


def unpack_codes(data: bytes, bits: int, size: int) -> NDArray[Any]:
    """Give back `size` flat codes from what `pack_codes` gave."""
    raw = np.frombuffer(data, np.uint8)
    if bits == 8:
        return raw
    if bits == 16:
        return raw.view("<u2").astype(np.uint16, copy=False)
    if bits == 1:
        return np.unpackbits(raw, count=size, bitorder="little")
    grouped = np.zeros(((size + 7) // 8, 8), np.uint8)
    padded = np.zeros(grouped.shape[0] * bits, np.uint8)
    padded[: raw.size] = raw
    grouped[:, :bits] = padded.reshape(-1, bits)
    words = grouped.reshape(-1).view("<u8")
    for lane in (32, 16, 8):
        width = lane * bits // 8  # bits that a half's codes take
        low = words & (_low_lanes(lane) & _low_bits(width, 2 * lane))
        words = low | (((words >> np.uint64(width)) & _low_bits(width, 2 * lane)) << np.uint64(lane))
    return words.view(np.uint8)[:size]


def _low_lanes(lane: int) -> np.uint64:
    """Every second lane of a 64-bit word, from the low end: 8 gives 0x00ff00ff00ff00ff."""
    return _low_bits(lane, 2 * lane)


@lru_cache
def _low_bits(width: int, period: int) -> np.uint64:
    """The low `width` bits of every `period` bits of a 64-bit word."""
    return np.uint64(sum(((1 << width) - 1) << start for start in range(0, 64, period)))
