"""How a table of kernel times lies on disk: one JSON file, replaced whole, by one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cache import WeightCache
from .profiler import Calibration

_FORMAT = 2

Point = tuple[int, int]
#: Nanoseconds under the profiler, and the node's number of inputs.
Raw = tuple[float, int]


@dataclass(frozen=True)
class Stored:
    """What a table's file holds; see :class:`~workbench.measure.latency.table.KernelTable`."""

    block: int
    calibration: Calibration
    cache: WeightCache
    points: Mapping[str, Mapping[Point, Raw]]

    def to_json(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """Return plain data for JSON; ``about`` says whose times these are, for people."""
        kernels = {
            signature: [[*point, round(ns), inputs] for point, (ns, inputs) in sorted(points.items())]
            for signature, points in sorted(self.points.items())
        }
        return {
            "format": _FORMAT, **about, "block": self.block, "calibration": self.calibration.to_json(),
            "cache": self.cache.to_json(), "kernels": kernels,
        }  # fmt: skip


def read_table(path: Path) -> Stored | None:
    """Return what a table's file holds; None if it is missing, damaged or of another format."""
    try:
        stored = json.loads(path.read_text())
        if stored["format"] != _FORMAT:
            return None
        points = {
            str(signature): {(int(row[0]), int(row[1])): (float(row[2]), int(row[3])) for row in rows}
            for signature, rows in stored["kernels"].items()
        }
        calibration = {name: float(value) for name, value in stored["calibration"].items()}
        cache = WeightCache.from_json(stored["cache"])
        return Stored(int(stored["block"]), Calibration(**calibration), cache, points)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None


def replace_table(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` to ``path`` whole, or leave what is there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(content, file)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from writing meanwhile, where the system can; replacing is atomic anyway."""
    with path.open("w") as file:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
