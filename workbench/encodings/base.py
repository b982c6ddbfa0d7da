"""What every encoding offers, and the one table they are found in.

An encoding keeps one tensor. It knows the tensor it stands for (`decode`), the bytes it costs
(`pack`, `nbytes`), and how to say in plain JSON data what those bytes mean (`describe`), so that
`unpack(description, shape, data)` gives it back. Encodings nest: `Grid(Bitmask(Packed))` is a quantized,
pruned tensor; a parent's bytes contain its children's, its description contains theirs.

Encodings are values. They keep the arrays they are given without copying them: whoever made the array
must not write to it afterwards. `decode` always gives a new array that the caller may write to.

A new encoding is one new file: subclass `Encoding`, decorate with `register`, import it in `__init__`.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workbench.encodings.once import once
from workbench.errors import WorkbenchError

Array = NDArray[Any]
Shape = tuple[int, ...]
Description = dict[str, Any]


#: Writes JSON as an archive has it; raises TypeError or ValueError for what JSON has not.
to_json = json.JSONEncoder(separators=(",", ":"), sort_keys=True, allow_nan=False).encode


class EncodingError(WorkbenchError):
    """Values that an encoding cannot hold, or bytes and a description that do not belong together."""


class Entry(NamedTuple):
    """An encoding's line in an archive.

    ``text`` is its description ``data``, to compare it by; ``is_open``: whether the values decide the size.
    """

    text: str
    data: Description
    is_open: bool
    nbytes: int
    entropy_bytes: float
    shape: Shape


class Encoding(ABC):
    """How one stored tensor is kept."""

    kind: ClassVar[str]
    """The name in the table and in files; never changed once files exist that carry it."""

    since: ClassVar[int] = 1
    """The first format of the archive that knows it."""

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Shape of the tensor that `decode` gives."""

    @abstractmethod
    def decode(self, background: ArrayLike = 0) -> Array:
        """Give the tensor back, bit for bit the one encoded, as a new writable array.

        `background` is what stands where a sparse encoding kept nothing: a scalar, or an array that
        broadcasts to the shape. Encodings that keep every value ignore it.
        """

    @abstractmethod
    def pack(self) -> bytes:
        """Give the stored bytes; the same values always give the same bytes."""

    @property
    def nbytes(self) -> int:
        """Number of bytes `pack` gives; subclasses compute it without packing where they can."""
        return len(self.pack())

    @property
    def entropy_bytes(self) -> float:
        """Zero-order entropy of the values in bytes: what an ideal coder without context would need.

        It is a property of the values, the same whichever encoding was chosen for them.
        """
        return float(self.nbytes)

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Say in plain JSON data how to read the bytes; the shape is kept beside it, not in it."""

    @once
    def entry(self) -> Entry:
        """What an archive asks of it, worked out once: most tensors stay as they are from recipe to recipe."""
        description, size, shape = self.describe(), self.nbytes, self.shape
        is_open = self.size_of(description, shape) is None
        return Entry(repr(description), description, is_open, size, min(self.entropy_bytes, size), shape)

    @classmethod
    @abstractmethod
    def unpack(cls, description: Description, shape: Shape, data: bytes) -> Encoding:
        """Rebuild from what `describe`, `shape` and `pack` gave; raises EncodingError if they disagree."""

    @classmethod
    def first_format(cls, description: Description) -> int:
        """Return the first format of the archive that knows one so described, without what is in it."""
        return cls.since

    @classmethod
    def size_of(cls, description: Description, shape: Shape) -> int | None:
        """Packed size in bytes where description and shape fix it, None where it depends on the values."""
        return None


ENCODINGS: dict[str, type[Encoding]] = {}
"""Every encoding by the name it has in files."""

E = TypeVar("E", bound=type[Encoding])


def register(encoding: E) -> E:
    """Put an encoding class in the table under its `kind`; a class decorator."""
    if encoding.kind in ENCODINGS:
        raise EncodingError(f"two encodings are called {encoding.kind!r}")
    ENCODINGS[encoding.kind] = encoding
    return encoding


def unpack(description: Description, shape: Shape, data: bytes) -> Encoding:
    """Rebuild any registered encoding from its description, the tensor's shape and its bytes."""
    return _class_of(description).unpack(description, shape, data)


def size_of(description: Description, shape: Shape) -> int | None:
    """Packed size that description and shape fix, or None; see `Encoding.size_of`."""
    return _class_of(description).size_of(description, shape)


def format_of(description: Description) -> int:
    """Return the first format of the archive that knows an encoding and all in it."""
    nested = [format_of(child) for child in description.values() if isinstance(child, dict)]
    return max([_class_of(description).first_format(description), *nested])


def _class_of(description: Description) -> type[Encoding]:
    kind = read_field(description, "kind", str)
    if kind not in ENCODINGS:
        raise EncodingError(f"no encoding is called {kind!r}; known are {', '.join(sorted(ENCODINGS))}")
    return ENCODINGS[kind]


T = TypeVar("T")


def read_field(description: object, name: str, kind: type[T]) -> T:
    """Read one entry of a description, checked for its type."""
    value = description.get(name) if isinstance(description, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise EncodingError(f"the description of an encoding has no valid {name!r}")
    return value


def pack_parts(*parts: tuple[str, Encoding]) -> dict[str, Any]:
    """Describe several children stored one after another: each one's description and, where only the
    values fix it, its size. The last one takes the bytes that are left.
    """
    described: dict[str, Any] = {}
    for place, (name, part) in enumerate(parts, 1):
        described[name] = description = part.describe()
        if place < len(parts) and part.size_of(description, part.shape) is None:
            described[f"{name}_bytes"] = part.nbytes
    return described


def split_part(description: Description, name: str, shape: Shape, data: bytes) -> tuple[Encoding, bytes]:
    """Unpack the child that comes first in `data`; gives it and the bytes after it."""
    child = read_field(description, name, dict)
    size = size_of(child, shape)
    if size is None:
        size = read_field(description, f"{name}_bytes", int)
    if not 0 <= size <= len(data):
        raise EncodingError(f"{name!r} needs {size} bytes and only {len(data)} are stored")
    return unpack(child, shape, data[:size]), data[size:]


def expect_bytes(kind: str, data: bytes, size: int) -> None:
    """Raise EncodingError unless `data` has exactly `size` bytes."""
    if len(data) != size:
        raise EncodingError(f"a {kind} encoding needs {size} bytes and {len(data)} are stored")


def mask_entropy_bytes(size: int, kept: int) -> float:
    """Entropy, in bytes, of which `kept` of `size` positions are kept, drawn independently."""
    if kept in (0, size):
        return 0.0
    p = kept / size
    return -size * (p * math.log2(p) + (1 - p) * math.log2(1 - p)) / 8


def zero_order_bytes(counts: Array) -> Any:
    """Entropy, in bytes, of symbols that occur `counts` times each (Shannon 1948); of each row of a matrix."""
    used = np.maximum(counts, 1)
    terms = np.log2(np.maximum(counts.sum(-1, keepdims=True), 1) / used)
    terms *= counts
    return terms.sum(-1) / 8
