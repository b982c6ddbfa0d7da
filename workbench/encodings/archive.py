"""The packed file: encoded tensors and what is needed to read them, in one `.wbz`.

    offset  bytes
    0       4      magic: 0x89 "WBZ"
    4       1      format version: the first that knows all encodings within
    5       4      size of the header in the file (little-endian, like all of it)
    9       8      size of the whole file
    17             header: JSON, Zstandard-compressed without magic, checksum or size
    ...            the tensors' bytes, one after another in the header's order
    last 16        BLAKE2b of everything before

The header names the model, the recipe and the edits as plain data; tensors are kept in columns (names,
shapes, encodings), which compress to a few bytes for each BatchNorm vector. A tensor's size is written
only where its values decide it. There is no code in the file and no pickle: reading it runs nothing.
The same archive always gives the same bytes (with the same release of Zstandard).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from workbench.encodings.base import Array, Encoding, Shape, format_of, size_of, to_json, unpack
from workbench.encodings.choose import entropy_bound_bytes
from workbench.encodings.entropy import compress_text, decompress_bytes
from workbench.encodings.files import write_atomically
from workbench.encodings.once import once
from workbench.errors import WorkbenchError

MAGIC = b"\x89WBZ"
VERSION = 4  # older ones have none of the encodings whose `since` says so
SUFFIX = ".wbz"
PREAMBLE = struct.Struct("<4sBIQ")
DIGEST_BYTES = 16
MAX_HEADER_BYTES = 1 << 26
MAX_VALUES = 1 << 28
MAX_NESTING = 8


class ArchiveError(WorkbenchError):
    """A file that is not a readable archive, or one that could not be written."""


@dataclass(frozen=True, eq=False)
class Archive:
    """A compressed model as it is stored.

    `tensors` holds parameters and buffers by their names in the state dict. `model`, `recipe`, `edits` and
    `metadata` are plain JSON data: which architecture it was and where it came from, how it was compressed,
    how its structure changed, and anything else worth keeping.
    """

    tensors: Mapping[str, Encoding]
    model: Mapping[str, Any] = field(default_factory=dict)
    recipe: Any = None
    edits: Sequence[Any] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Size in bytes of the file that `save` writes; no formula beside it, the header is really made."""
        return self.overhead_bytes + sum(encoding.entry.nbytes for encoding in self.tensors.values())

    @property
    def overhead_bytes(self) -> int:
        """What the file spends beside the tensors' bytes: preamble, header and digest."""
        return PREAMBLE.size + len(self._header) + DIGEST_BYTES

    @property
    def entropy_bytes(self) -> int:
        """Entropy bound of the tensors in bytes (`entropy_bound_bytes`), plus the same overhead."""
        return self.overhead_bytes + entropy_bound_bytes(self.tensors.values())

    def decode(self) -> dict[str, Array]:
        """Give every tensor back by name."""
        return {name: encoding.decode() for name, encoding in self.tensors.items()}

    def to_bytes(self) -> bytes:
        """Give the file's content."""
        version = max((format_of(encoding.entry.data) for encoding in self.tensors.values()), default=1)
        preamble = PREAMBLE.pack(MAGIC, version, len(self._header), self.nbytes)
        body = b"".join([preamble, self._header, *(e.pack() for e in self.tensors.values())])
        return body + _digest(body)

    def save(self, path: str | Path) -> Path:
        """Write the file; an older one of that name is replaced only once the new one is safely on disk.

        Raises ArchiveError, in one sentence, if it cannot be written; nothing is left behind then.
        """
        try:
            return write_atomically(Path(path), self.to_bytes())
        except OSError as error:
            reason = error.strerror or str(error)
            raise ArchiveError(
                f"could not save {path}: {reason[:1].lower()}{reason[1:]};"
                " nothing was changed, choose another place or free some space"
            ) from error

    @once
    def _header(self) -> bytes:
        try:
            columns = ",".join(f'"{name}":{text}' for name, text in sorted(self._columns().items()))
        except (TypeError, ValueError) as error:
            raise ArchiveError(
                f"model, recipe, edits and metadata of an archive must be plain JSON data ({error})"
            ) from error
        return compress_text(f"{{{columns}}}".encode())

    def _columns(self) -> dict[str, str]:
        """Return the header's entries in JSON."""
        # a deep model has thousands of tensors, and a slider waits for this: a column at a time
        entries = [encoding.entry for encoding in self.tensors.values()]
        kinds = {entry.text: entry.data for entry in entries}
        numbers = {text: number for number, text in enumerate(kinds)}
        return {
            "model": to_json(dict(self.model)),
            "recipe": to_json(self.recipe),
            "edits": to_json(list(self.edits)),
            "metadata": to_json(dict(self.metadata)),
            "names": _column(tuple(self.tensors)),
            "shapes": _column(tuple(entry.shape for entry in entries)),
            "kinds": to_json(list(kinds.values())),
            "uses": to_json([numbers[entry.text] for entry in entries]),
            "sizes": to_json([entry.nbytes for entry in entries if entry.is_open]),
        }

    @classmethod
    def from_bytes(cls, data: bytes, name: str = "the file", max_values: int = MAX_VALUES) -> Archive:
        """Read what `to_bytes` gave. `max_values` bounds the number of values all tensors may have.

        Raises ArchiveError, in one sentence, for anything that is not a whole, undamaged archive.
        """
        header, position = _read_header(data, name)
        try:
            tensors = _read_tensors(header, data, position, max_values)
            model, recipe, edits, metadata = (header[key] for key in ("model", "recipe", "edits", "metadata"))
            _check(
                isinstance(model, dict) and isinstance(edits, list) and isinstance(metadata, dict),
                "its header lacks the model, the edits or the metadata",
            )
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, MemoryError) as error:
            raise ArchiveError(f"{name} does not hold what it says: {_sentence(error)}") from error
        return cls(tensors, model, recipe, edits, metadata)


@lru_cache(maxsize=8)
def _column(values: tuple[Any, ...]) -> str:
    """Return in JSON what most recipes leave as it is."""
    return to_json(values)


def load_archive(path: str | Path, max_values: int = MAX_VALUES) -> Archive:
    """Read a `.wbz` file; see `Archive.from_bytes`. Raises ArchiveError."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            start = file.read(PREAMBLE.size)
            _check_preamble(start, path.stat().st_size, path.name)
            return Archive.from_bytes(start + file.read(), path.name, max_values)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ArchiveError(f"could not read {path}: {reason[:1].lower()}{reason[1:]}") from error


def _check_preamble(start: bytes, size: int, name: str) -> int:
    """Check the first bytes of a file of `size` bytes; gives the header's size."""
    if not start.startswith(MAGIC):
        whole = MAGIC.startswith(start) and bool(start)
        raise ArchiveError(f"{name} is truncated" if whole else f"{name} is not a {SUFFIX} file")
    if len(start) > 4 and start[4] > VERSION:
        raise ArchiveError(
            f"{name} was written by a newer version (format {start[4]}, this one reads up to {VERSION});"
            " update the workbench to read it"
        )
    if len(start) < PREAMBLE.size:
        raise ArchiveError(f"{name} is truncated after {len(start)} bytes")
    _, version, header_size, total = PREAMBLE.unpack(start)
    if size < total:
        raise ArchiveError(f"{name} is truncated: {size} of {total} bytes are there")
    if version < 1 or size > total or PREAMBLE.size + header_size + DIGEST_BYTES > total:
        raise ArchiveError(f"{name} is damaged: its sizes do not agree")
    return int(header_size)


def _read_header(data: bytes, name: str) -> tuple[dict[str, Any], int]:
    """Check the file as a whole; gives its header and where the tensors' bytes begin."""
    size = _check_preamble(data[: PREAMBLE.size], len(data), name)
    if _digest(data[:-DIGEST_BYTES]) != data[-DIGEST_BYTES:]:
        raise ArchiveError(f"{name} is damaged: its checksum does not match; get a fresh copy")
    try:
        text = decompress_bytes(data[PREAMBLE.size : PREAMBLE.size + size], MAX_HEADER_BYTES)
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{name} is damaged: its header cannot be read") from error
    if not isinstance(header, dict):
        raise ArchiveError(f"{name} is damaged: its header is not a mapping")
    return header, PREAMBLE.size + size


def _read_tensors(header: Mapping[str, Any], data: bytes, position: int, max_values: int) -> dict[str, Encoding]:
    names, kinds = header["names"], header["kinds"]
    _check(
        all(isinstance(name, str) for name in names) and len(set(names)) == len(names),
        "a tensor's name is missing or there twice",
    )
    _check(all(_depth(kind) <= MAX_NESTING for kind in kinds), "encodings are nested too deeply")
    shapes = [_read_shape(shape, max_values) for shape in header["shapes"]]
    values = sum(_count(shape) for shape in shapes)
    _check(values <= max_values, f"its tensors have {values} values, more than the {max_values} allowed")
    sizes = iter(header["sizes"])
    end = len(data) - DIGEST_BYTES
    tensors = {}
    for name, shape, use in zip(names, shapes, header["uses"], strict=True):
        _check(isinstance(use, int) and 0 <= use < len(kinds), f"{name} has no encoding")
        size = size_of(kinds[use], shape)
        size = next(sizes, -1) if size is None else size
        _check(isinstance(size, int) and 0 <= size <= end - position, f"{name} has no valid size")
        tensors[name] = unpack(kinds[use], shape, data[position : position + size])
        position += size
    _check(position == end, "bytes are left over after the last tensor")
    return tensors


def _read_shape(shape: Any, max_values: int) -> Shape:
    _check(isinstance(shape, list) and len(shape) <= 16, "a shape is not a list of sizes")
    _check(all(type(n) is int and 0 <= n <= max_values for n in shape), "a shape has an impossible size")
    _check(_count([n or 1 for n in shape]) <= max_values, f"a tensor has more than {max_values} values")
    return tuple(shape)


def _count(shape: Sequence[int]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def _depth(data: Any) -> int:
    children = data.values() if isinstance(data, dict) else ()
    return 1 + max((_depth(child) for child in children), default=0)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def _check(condition: bool, sentence: str) -> None:
    if not condition:
        raise ArchiveError(sentence)


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, WorkbenchError) else "its header and its bytes do not agree"
