"""The rows in a damaged file's pages, whether or not its trees still lead to them.

A table of SQLite is a tree; its rows lie in the leaves, and a lost page above them hides all rows below. But a leaf
tells what it is by its first byte, and a row in it how long it is and of what types. So every page is looked at, and
every row taken that can be one of the wanted tables by the number and types of its columns. Long rows go on in chains
of further pages; one whose chain is broken is left out. A page no longer in use may hold an older state of a row.

Format: https://www.sqlite.org/fileformat2.html, sections 1.3, 1.6 and 2.1.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LEAF = 0x0D
#: Where the file's own header ends, in its first page.
_HEADER = 100
#: A page's size where the file's header is lost: that of a fresh file.
_PAGE = 4096
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
#: What a declared type may hold.
_HOLDS: Mapping[str, tuple[type, ...]] = {
    "INTEGER": (int,), "REAL": (int, float), "TEXT": (str,), "BLOB": (bytes,),
}  # fmt: skip

Row = tuple[Any, ...]


@dataclass(frozen=True)
class Column:
    """What a column can hold: its declared type, whether NULL too, and whether it is the row's number."""

    kind: str
    nullable: bool
    number: bool


def read_pages(file: Path, tables: Mapping[str, Sequence[Column]]) -> Iterator[tuple[str, Row]]:
    """Yield table and row of every row in ``file`` that can be one of ``tables``, in the order of the pages."""
    with file.open("rb") as content:
        head = content.read(_HEADER)
    size, reserved = struct.unpack(">H", head[16:18].ljust(2, b"\0"))[0], head[20] if len(head) > 20 else 0
    size = 65536 if size == 1 else size
    if size < 512 or size & (size - 1):
        size, reserved = _PAGE, 0
    pages = _Pages(file.read_bytes(), size, size - reserved)
    for number in range(1, pages.count + 1):
        for identity, payload in pages.cells(number):
            with contextlib.suppress(IndexError, ValueError, struct.error):
                values = _record(payload)
                table = next((name for name, columns in tables.items() if _fits(values, columns)), None)
                if table is not None:
                    pairs = zip(values, tables[table], strict=True)
                    yield table, tuple(identity if column.number else value for value, column in pairs)


@dataclass(frozen=True)
class _Pages:
    """A file in pages of ``size`` bytes, ``usable`` of them; the first is number 1."""

    content: bytes
    size: int
    usable: int

    @property
    def count(self) -> int:
        return -(-len(self.content) // self.size)

    def page(self, number: int) -> bytes:
        return self.content[(number - 1) * self.size : number * self.size]

    def cells(self, number: int) -> Iterator[tuple[int, bytes]]:
        """Yield number and payload of each whole row of a leaf; nothing where the page is none."""
        page, start = self.page(number), _HEADER if number == 1 else 0
        if len(page) < start + 8 or page[start] != _LEAF:
            return
        for place in range(struct.unpack_from(">H", page, start + 3)[0]):
            with contextlib.suppress(IndexError, ValueError, struct.error):
                at = struct.unpack_from(">H", page, start + 8 + 2 * place)[0]
                length, at = _varint(page, at)
                identity, at = _varint(page, at)
                yield identity, self._payload(page, at, length)

    def _payload(self, page: bytes, at: int, length: int) -> bytes:
        """Return a row's bytes, those that lie in further pages too; raises ``ValueError`` where some are lost."""
        most, least = self.usable - 35, (self.usable - 12) * 32 // 255 - 23
        here = length
        if length > most:
            here = least + (length - least) % (self.usable - 4)
            here = here if here <= most else least
        parts, missing = [page[at : at + here]], length - here
        if len(parts[0]) < here or length > len(self.content):
            raise ValueError("cut off")
        further = struct.unpack_from(">I", page, at + here)[0] if missing else 0
        while missing:
            chain = self.page(further) if further else b""
            part = chain[4 : 4 + min(missing, self.usable - 4)]
            if not part:
                raise ValueError("cut off")
            parts.append(part)
            missing -= len(part)
            further = struct.unpack_from(">I", chain)[0]
        if further:
            raise ValueError("another row's pages")
        return b"".join(parts)


def _record(payload: bytes) -> list[Any]:
    """Return a row's values; raises where it is none."""
    end, at = _varint(payload, 0)
    kinds = []
    while at < end:
        kind, at = _varint(payload, at)
        kinds.append(kind)
    values: list[Any] = []
    for kind in kinds:
        length = _INTEGERS.get(kind, 8 if kind == 7 else max(0, (kind - 12) // 2))
        part, at = payload[at : at + length], at + length
        if len(part) < length or kind in (10, 11):
            raise ValueError("no row")
        if kind == 0:
            values.append(None)
        elif kind in (8, 9):
            values.append(kind - 8)
        elif kind == 7:
            values.append(struct.unpack(">d", part)[0])
        elif kind in _INTEGERS:
            values.append(int.from_bytes(part, "big", signed=True))
        else:
            values.append(part if kind % 2 == 0 else part.decode())
    if at != len(payload):
        raise ValueError("no row")
    return values


def _fits(values: Sequence[Any], columns: Sequence[Column]) -> bool:
    return len(values) == len(columns) and all(
        value is None
        if column.number
        else (column.nullable if value is None else isinstance(value, _HOLDS[column.kind]))
        for value, column in zip(values, columns, strict=True)
    )


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number of 1 to 9 bytes that begins at ``at``, and where it ends."""
    value = 0
    for place in range(8):
        byte = data[at + place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + place + 1
    return value << 8 | data[at + 8], at + 9
