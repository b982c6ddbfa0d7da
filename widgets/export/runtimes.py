"""The formats that a page offers, and the bytes of one: a file, or a zip archive of several."""

from __future__ import annotations

import io
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.recipe import Recipe
from workbench.session import Session

#: What an entry of an archive is dated, so that the same files give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Made:
    """A recipe in a format: the name and bytes to download, and what a person should know of it."""

    name: str
    data: bytes
    remarks: tuple[str, ...]


def list_formats() -> list[dict[str, Any]]:
    """Return the formats for the page; the packed file has a row of its own."""
    from workbench.deploy.formats import FORMATS

    return [entry.to_json() for name, entry in FORMATS.items() if name != "wbz"]


def make(session: Session, recipe: Recipe, format: str) -> Made:
    """Write ``recipe`` in ``format``; raises ``WorkbenchError`` where that cannot be done."""
    from workbench.deploy.formats import find_format
    from workbench.deploy.writing import source_for, write

    chosen = find_format(format)
    chosen.require()
    completed, added = chosen.complete(recipe)
    source = source_for(session, completed)
    with tempfile.TemporaryDirectory() as folder:
        files = write(chosen, source, Path(folder))
        remarks = (*added, *chosen.remarks(source))
        if len(files) == 1:
            return Made(files[0].name, files[0].read_bytes(), remarks)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in files:
                archive.writestr(zipfile.ZipInfo(path.name, _DATE), path.read_bytes(), zipfile.ZIP_DEFLATED)
        return Made(f"{files[0].name}.zip", buffer.getvalue(), remarks)
