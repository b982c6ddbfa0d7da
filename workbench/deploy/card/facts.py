"""What a model card is made of: a setting of the history, the dense model, and what changed between them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.analyze.compare import Contrast, Setting, compare_settings
from workbench.deploy.normalizing import note_bytes
from workbench.errors import WorkbenchError
from workbench.history import Record
from workbench.int8 import runs_int8
from workbench.measure.devices import Energy, Forecast
from workbench.recipe import Recipe
from workbench.session import Session


@dataclass(frozen=True, eq=False)
class Elsewhere:
    """What a described device would make of it: its title, time ÷ the dense model's, milliseconds, energy."""

    title: str
    runtime: str
    ratio: Forecast
    ms: tuple[float, float, float]
    energy: Energy | None


@dataclass(frozen=True, eq=False)
class Facts:
    """Everything that a card says. ``path``: the settings that led here, the first one first.

    ``onnx``: bytes of the setting's ONNX file, and whether it runs on int8 kernels; None where there is no such file.
    ``files``: what ``workbench export --json`` and ``workbench benchmark --json`` said of files.
    """

    session: Session
    dense: Setting
    setting: Setting
    contrast: Contrast
    record: Record
    path: tuple[Record, ...]
    elsewhere: tuple[Elsewhere, ...]
    onnx: tuple[int, bool] | None
    files: tuple[Mapping[str, Any], ...]

    @property
    def recipe(self) -> Recipe:
        """The recipe that the card is of."""
        return self.setting.snapshot.recipe


def gather(session: Session, recipe: Recipe, devices: Sequence[str] = (), files: Sequence[str | Path] = ()) -> Facts:
    """Return the facts about ``recipe``; what the history has is not measured again.

    Raises:
        WorkbenchError: the recipe cannot be carried out, no such device, or a file that is no report of
            ``workbench export`` or ``workbench benchmark``.
    """
    reports = tuple(report for path in files for report in read_reports(Path(path)))
    found = compare_settings(session, [Recipe(), recipe])
    dense, setting = found.settings
    record = session.history.find(session.key_of(recipe), recipe.hash)
    if record is None:
        raise WorkbenchError("The history could not keep this setting, so that there is nothing to report from.")
    elsewhere = tuple(_elsewhere(session, recipe, name) for name in devices)
    session.use_device("this-machine")
    onnx = _onnx(session, setting)
    return Facts(session, dense, setting, found.contrasts[0], record, _path(session, record), elsewhere, onnx, reports)


def read_reports(path: Path) -> list[Mapping[str, Any]]:
    """Return the reports in a JSON file that ``workbench export`` or ``workbench benchmark`` printed."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WorkbenchError(f"The report '{path}' cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise WorkbenchError(f"'{path}' is no JSON report.") from error
    if isinstance(content, dict) and isinstance(content.get("ms"), dict) and "noise" in content:
        files = content.get("files") or [content]
        return [{"kind": "benchmark", **entry} for entry in files]
    if isinstance(content, dict) and isinstance(content.get("files"), list) and "runtime" in content:
        return [{"kind": "export", **content}]
    raise WorkbenchError(f"'{path}' is no report of workbench export --json or workbench benchmark --json.")


def _onnx(session: Session, setting: Setting) -> tuple[int, bool] | None:
    """Return the size of the setting's ONNX file, which an int8 one has only once it is made."""
    snapshot = setting.snapshot
    if snapshot.size is None or snapshot.size.runtime_bytes is None:
        return None
    if not runs_int8(session.compress(snapshot.recipe)):
        return snapshot.size.runtime_bytes, False
    return len(session.onnx_file(snapshot.recipe)) + len(note_bytes(session.normalization)), True


def _elsewhere(session: Session, recipe: Recipe, name: str) -> Elsewhere:
    from workbench.measure.devices import find_target

    target = find_target(name)
    session.use_device(target)
    found = session.on_device(recipe)
    if found is None:
        raise WorkbenchError(f"'{session.model.name}' cannot be written as ONNX, so that no device can be predicted.")
    ratio, energy = found
    time = target.forecast(*session.work(recipe))
    return Elsewhere(
        target.description.title, target.description.runtime, ratio, (time.ms, time.low, time.high), energy
    )


def _path(session: Session, record: Record) -> tuple[Record, ...]:
    """Return the settings that led to ``record``, itself last."""
    known = {entry.id: entry for entry in session.records()}
    found = [record]
    while found[0].parent in known and len(found) < 50:
        found.insert(0, known[found[0].parent])
    return tuple(found)
