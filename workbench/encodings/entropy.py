"""Another encoding's bytes, entropy-coded by Zstandard (RFC 8878).

Zstandard codes literal bytes with Huffman codes, which is what quantized weights need, and looks for
repeats, which weights do not have: matches found by chance cost more than they save, so it is set to look
for long ones only (`min_match=7`, a tiny table). Measured on 4-bit ResNet-20 codes, one a byte: 0.4 ms and
89.8 kB, where level 1 takes 0.8 ms and 95.9 kB, level 9 5.6 ms and 102.6 kB, and the entropy is 86.2 kB.

It sees bytes: give it codes of 2, 4 or 8 bits, so that a code never straddles two of them. Frames carry
neither magic number, checksum nor size (an archive guards its bytes as a whole): two bytes and a header
of three for each block of 128 kB.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import zstandard
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.base import (
    Array,
    Description,
    Encoding,
    EncodingError,
    Shape,
    read_field,
    register,
    size_of,
    unpack,
)
from workbench.encodings.once import once


@register
@dataclass(frozen=True, eq=False)
class Entropy(Encoding):
    """The packed bytes of `inner`, compressed once, when the size or the bytes are first asked for."""

    kind: ClassVar[str] = "entropy"
    inner: Encoding

    @property
    def shape(self) -> Shape:
        return self.inner.shape

    def decode(self, background: ArrayLike = 0) -> Array:
        return self.inner.decode(background)

    @classmethod
    def known(cls, inner: Encoding, compressed: bytes) -> Entropy:
        """Build one of which the bytes are known."""
        entropy = cls(inner)
        entropy.__dict__["_bytes"] = compressed
        return entropy

    @once
    def _bytes(self) -> bytes:
        return compress_bytes(self.inner.pack())

    def pack(self) -> bytes:
        return self._bytes

    @property
    def entropy_bytes(self) -> float:
        return self.inner.entropy_bytes

    def describe(self) -> dict[str, Any]:
        return {"kind": self.kind, "inner": self.inner.describe()}

    @classmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Entropy:
        inner = read_field(description, "inner", dict)
        limit = size_of(inner, shape)
        if limit is None:  # no encoding takes more: 8 bytes a value, and a scale and zero point a channel
            limit = 16 * math.prod(shape) + 1024
        # another release of Zstandard may compress differently
        return cls.known(unpack(inner, shape, decompress_bytes(data, limit)), bytes(data))


#: Bytes from which on text is long.
LONG_TEXT = 2**14

_local = threading.local()  # compressors are not safe to share between threads, and cost 20 us to make


def compress_bytes(data: bytes | NDArray[np.uint8]) -> bytes:
    """Compress bytes that are symbols of a memoryless source; nothing stays nothing."""
    if not len(data):
        return b""
    if not hasattr(_local, "codes"):
        _local.codes = _compressor(
            1, strategy=zstandard.STRATEGY_FAST, min_match=7, hash_log=6, window_log=19, target_length=0
        )
    compressed: bytes = _local.codes.compress(data)
    return compressed


def compress_text(data: bytes) -> bytes:
    """Compress text, which does repeat itself, with tables for 8 kB: a header of 7 kB takes 0.2 ms at level 12.

    One of 80 kB takes 3 ms there, and at level 6 a tenth of that, with 7 % fewer bytes.
    """
    if not hasattr(_local, "texts"):
        _local.texts = {level: _compressor(level) for level in (6, 12)}
    compressed: bytes = _local.texts[12 if len(data) < LONG_TEXT else 6].compress(data)
    return compressed


def decompress_bytes(data: bytes, limit: int) -> bytes:
    """Undo either; raises EncodingError for anything but one whole frame of at most `limit` bytes."""
    if not data:
        return b""
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    try:
        decompress = partial(_local.decompressor.decompress, data, allow_extra_data=False)
        plain: bytes = decompress(max_output_size=max(limit, 1))
        if 0 < len(plain) < limit:  # bytes after the frame are only noticed when the output is filled
            plain = decompress(max_output_size=len(plain))
    except zstandard.ZstdError as error:
        raise EncodingError(f"compressed bytes cannot be read ({error})") from error
    if not 0 < len(plain) <= limit:
        raise EncodingError(f"compressed bytes hold {len(plain)} and should hold 1 to {limit}")
    return plain


def _compressor(level: int, **parameters: int) -> zstandard.ZstdCompressor:
    return zstandard.ZstdCompressor(
        compression_params=zstandard.ZstdCompressionParameters.from_level(
            level,
            source_size=1 << 13,
            format=zstandard.FORMAT_ZSTD1_MAGICLESS,
            write_content_size=False,
            write_checksum=False,
            write_dict_id=False,
            **parameters,
        )
    )
