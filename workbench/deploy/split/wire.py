"""What goes over the wire: a value rounded to few bits and entropy-coded, in messages that tell their length.

A message is the four bytes ``CWS1``, one byte of kind, the length of its body in four little-endian bytes,
and the body. A value's body begins with one byte: 1 where its codes follow under an asymmetric numeral
system (``encodings.ans``), 0 where they are smaller as they are.
"""

from __future__ import annotations

import math
import socket
import struct
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from workbench.encodings.ans import decode_symbols, encode_symbols
from workbench.encodings.base import EncodingError
from workbench.errors import WorkbenchError

_MAGIC = b"CWS1"
_HEAD = struct.Struct("<4sBI")
#: A longer body than any value's is damage, or not ours.
_LONGEST = 2**28


class SplitError(WorkbenchError):
    """The two sides of a split could not be made, or could not talk to each other."""


class Kind(IntEnum):
    """What a message carries."""

    VALUE = 1
    ANSWER = 2
    REFUSAL = 3


@dataclass(frozen=True)
class Grid:
    """Unsigned codes of ``bits`` (1 to 8): ``real = low + step × code``, for a value of ``shape`` without batch."""

    shape: tuple[int, ...]
    bits: int
    low: float
    step: float

    @classmethod
    def around(cls, values: NDArray[np.float32], bits: int) -> Grid:
        """Return the grid from the least to the greatest of ``values`` ``(N, …)``; it holds zero exactly."""
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        step = (high - low) / (2**bits - 1) or 1.0
        return cls(tuple(values.shape[1:]), bits, round(low / step) * step, step)

    def encode(self, values: NDArray[np.float32]) -> bytes:
        """Return the body that carries ``values`` ``(N, …)``."""
        codes = np.rint((values - np.float32(self.low)) / np.float32(self.step)).clip(0, 2**self.bits - 1)
        flat = codes.astype(np.uint8).reshape(-1)
        coded, packed = encode_symbols(flat), _packed(flat, self.bits)
        return b"\1" + coded if len(coded) < len(packed) else b"\0" + packed

    def decode(self, body: bytes) -> NDArray[np.float32]:
        """Return the rounded values of one image ``(1, …)``; raises ``SplitError`` for a damaged body."""
        size = math.prod(self.shape)
        try:
            if body[:1] == b"\1":
                codes = decode_symbols(body[1:], size, 2**self.bits)
            else:
                codes = _unpacked(body[1:], size, self.bits)
        except EncodingError as error:
            raise SplitError(f"What came over the wire is no value of this cut: {error}.") from error
        values: NDArray[np.float32] = np.float32(self.low) + codes.astype(np.float32) * np.float32(self.step)
        return values.reshape(1, *self.shape)

    def rounded(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the other side will see of ``values`` ``(N, …)``."""
        codes = np.rint((values - np.float32(self.low)) / np.float32(self.step)).clip(0, 2**self.bits - 1)
        seen: NDArray[np.float32] = np.float32(self.low) + codes.astype(np.float32) * np.float32(self.step)
        return seen


def send(link: socket.socket, kind: Kind, body: bytes) -> None:
    """Send one message."""
    link.sendall(_HEAD.pack(_MAGIC, kind, len(body)) + body)


def receive(link: socket.socket) -> tuple[Kind, bytes] | None:
    """Return the next message, None where the other side has left between messages.

    Raises ``ConnectionError`` where it left in the middle of one, ``SplitError`` for anything but a message.
    """
    head = _exactly(link, _HEAD.size)
    if head is None:
        return None
    magic, kind, length = _HEAD.unpack(head)
    if magic != _MAGIC or kind not in set(Kind) or length > _LONGEST:
        raise SplitError("The other side does not speak this protocol: is another program listening at this address?")
    body = _exactly(link, length)
    if body is None:
        raise ConnectionError("the other side left in the middle of a message")
    return Kind(kind), body


def _exactly(link: socket.socket, count: int) -> bytes | None:
    parts: list[bytes] = []
    left = count
    while left:
        part = link.recv(min(left, 2**20))
        if not part:
            if parts:
                raise ConnectionError("the other side left in the middle of a message")
            return None if count else b""
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _packed(codes: NDArray[np.uint8], bits: int) -> bytes:
    planes = np.unpackbits(codes[:, None], axis=1)[:, 8 - bits :]
    return np.packbits(planes.reshape(-1)).tobytes()


def _unpacked(data: bytes, size: int, bits: int) -> NDArray[np.uint8]:
    if len(data) != (size * bits + 7) // 8:
        raise EncodingError(f"{len(data)} bytes do not hold {size} codes of {bits} bits")
    planes = np.unpackbits(np.frombuffer(data, np.uint8), count=size * bits).reshape(size, bits)
    whole = np.concatenate([np.zeros((size, 8 - bits), np.uint8), planes], axis=1)
    return np.packbits(whole, axis=1).reshape(-1)
