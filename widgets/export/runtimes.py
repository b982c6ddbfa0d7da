"""The formats that a page offers, and one made: a file, or a zip archive of several, tried in its own runtime."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from workbench.recipe import Recipe
from workbench.session import Session

if TYPE_CHECKING:
    from workbench.data.dataset import Dataset
    from workbench.deploy.export import Export, Told

#: What an entry of an archive is dated, so that the same files give the same bytes.
_DATE = (1980, 1, 1, 0, 0, 0)
#: Images of the session's split, at even distances, that a file is tried on before it is handed over.
TRIED = 256


@dataclass(frozen=True)
class Made:
    """A recipe in a format: the name and bytes to download, and what a person should know of it.

    ``verdict`` says what the file did in its own runtime; empty where that does not run here.
    """

    name: str
    data: bytes
    remarks: tuple[str, ...]
    verdict: str


def list_formats() -> list[dict[str, Any]]:
    """Return the formats for the page; the packed file has a row of its own."""
    from workbench.deploy.formats import FORMATS

    return [entry.to_json() for name, entry in FORMATS.items() if name != "wbz"]


def make(session: Session, recipe: Recipe, format: str, tell: Told = lambda what, share: None) -> Made:
    """Write ``recipe`` in ``format`` and try it; raises ``WorkbenchError`` where that cannot be done.

    ``tell`` hears what is being done and how much of it is; it may raise to give up.
    """
    from workbench.deploy.export import judge, simulate
    from workbench.deploy.formats import find_format
    from workbench.deploy.writing import source_for, write

    chosen = find_format(format)
    chosen.require()
    completed, added = chosen.complete(recipe, "calibration" in session.data.splits)
    tell("compressing", 0.0)
    source = source_for(session, completed)
    tell("writing", 0.0)
    with tempfile.TemporaryDirectory() as folder:
        files = write(chosen, source, Path(folder))
        remarks, verdict = (*added, *chosen.remarks(source)), ""
        if chosen.runs_here:
            data, split = _few(session), session.key.split
            simulated = simulate(source, data[split], session.normalization, _telling(tell, "simulating in torch"))
            verdict = verdict_of(judge(chosen, source, files, data, split, simulated, tell=tell))
        return Made(*_packed(files), remarks, verdict)


def verdict_of(found: Export) -> str:
    """Return what a file did in its runtime, in a sentence."""
    assert found.agreement is not None
    same, right = found.agreement, ""
    if found.accuracy and found.simulated:
        right = f", {found.accuracy.value:.1%} are right ({found.simulated.value:.1%} in the simulation)"
    return (
        f"Tried in {found.runtime}: {same.value:.1%} of {same.n:,} {same.split} images get the simulation's "
        f"answer{right}; {found.ms:.3g} ms an image on one thread, {found.load_ms:.0f} ms to open."
    )


def _few(session: Session) -> Dataset:
    """Return the session's data with ``TRIED`` images in its split."""
    split = session.split
    places = torch.linspace(0, len(split) - 1, min(TRIED, len(split))).long()
    return replace(session.data, splits={session.key.split: split.take(places)})


def _telling(tell: Told, what: str) -> Callable[[float], None]:
    return lambda share: tell(what, share)


def _packed(files: tuple[Path, ...]) -> tuple[str, bytes]:
    """Return the name and bytes of a file, or of an archive of several."""
    if len(files) == 1:
        return files[0].name, files[0].read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.writestr(zipfile.ZipInfo(path.name, _DATE), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return f"{files[0].name}.zip", buffer.getvalue()
