"""Shared values whose places are not stored: a hash of a weight's place says in which bucket it is.

Chen et al. 2015, "Compressing Neural Networks with the Hashing Trick" (HashedNets):

    value[place] = buckets[hash(place, seed) mod the number of buckets]

Only the buckets and the seed are kept. Weights that were pruned are zero and in no bucket; which they are is
kept beside, a bit for each place under the smallest code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.base import (
    Array,
    Description,
    Encoding,
    EncodingError,
    Shape,
    pack_parts,
    read_field,
    register,
    split_part,
    unpack,
)

MAX_SEED = 2**32 - 1


@register
@dataclass(frozen=True, eq=False)
class Hashed(Encoding):
    """Floats in ``buckets`` (1-D) for a tensor of shape ``whole``.

    ``kept`` is 1 where a weight is in a bucket and 0 where it is zero; None where no weight was pruned.
    """

    kind: ClassVar[str] = "hashed"
    since: ClassVar[int] = 3
    buckets: Encoding
    whole: Shape
    seed: int
    kept: Encoding | None = None

    def __post_init__(self) -> None:
        if len(self.buckets.shape) != 1 or self.buckets.shape[0] < 1 or not 0 <= self.seed <= MAX_SEED:
            raise EncodingError("hashed values have one or more buckets, and a seed below 2**32")
        if self.kept is not None and self.kept.shape != self.whole:
            raise EncodingError(f"which values are kept is known for {self.kept.shape}, and wanted for {self.whole}")

    @property
    def shape(self) -> Shape:
        return self.whole

    def decode(self, background: ArrayLike = 0) -> Array:
        buckets = self.buckets.decode()
        if buckets.dtype.kind != "f":
            raise EncodingError(f"buckets hold floats, not {buckets.dtype}")
        places = bucket_of(math.prod(self.whole), len(buckets), self.seed)
        values = buckets.astype(np.float32).take(places).reshape(self.whole)
        if self.kept is not None:
            values[self.kept.decode() == 0] = 0
        return values

    def pack(self) -> bytes:
        return self.buckets.pack() + (b"" if self.kept is None else self.kept.pack())

    @property
    def nbytes(self) -> int:
        return self.buckets.nbytes + (0 if self.kept is None else self.kept.nbytes)

    @property
    def entropy_bytes(self) -> float:
        """Entropy of which are kept, and the buckets as they are stored."""
        return self.buckets.nbytes + (0.0 if self.kept is None else self.kept.entropy_bytes)

    def describe(self) -> dict[str, Any]:
        kept = [] if self.kept is None else [("kept", self.kept)]
        parts = pack_parts(("buckets", self.buckets), *kept)
        return {"kind": self.kind, "seed": self.seed, "count": self.buckets.shape[0], **parts}

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Hashed:
        seed, count = read_field(description, "seed", int), read_field(description, "count", int)
        if not 0 < count <= max(1, math.prod(shape)):
            raise EncodingError(f"a tensor of shape {shape} is not in {count} buckets")
        if "kept" not in description:
            return cls(unpack(read_field(description, "buckets", dict), (count,), data), shape, seed)
        buckets, rest = split_part(description, "buckets", (count,), data)
        return cls(buckets, shape, seed, unpack(read_field(description, "kept", dict), shape, rest))


@lru_cache(maxsize=64)
def bucket_of(size: int, buckets: int, seed: int) -> NDArray[np.uint32]:
    """Return the bucket, 0 to ``buckets`` - 1, of each of ``size`` places; not to be written to.

    A place is multiplied by an odd number and mixed by shifts and two more multiplications, all modulo 2**32,
    so that neighbours land far apart; the upper bits of the product with the number of buckets choose one.
    Files depend on it: it must never change.
    """
    mixed = np.arange(size, dtype=np.uint32)
    mixed *= np.uint32(0x9E3779B1)  # the golden ratio of 2**32, made odd
    mixed += np.uint32((seed * 0x632BE5AB + 0x1B873593) % 2**32)
    for shift, factor in ((15, 0x85EBCA77), (13, 0xC2B2AE3D)):
        mixed ^= mixed >> np.uint32(shift)
        mixed *= np.uint32(factor)
    mixed ^= mixed >> np.uint32(16)
    found = ((mixed.astype(np.uint64) * np.uint64(buckets)) >> np.uint64(32)).astype(np.uint32)
    found.setflags(write=False)
    return found
