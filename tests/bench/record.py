"""Records of benches that take long: what they measured is kept in the repository, and told from there.

A record is a JSON file in ``tests/bench/records``, rewritten whenever its bench ends: the command, machine and how
busy it was (processes that wanted to run), versions, data, seeds and seconds, the figures with what they must
reach, and every run behind them. ``docs/records.md`` is then made anew from all of them (see ``table``).
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.bench.machine import machine_name, versions
from tests.bench.table import RECORDS, write_page

#: Those that training and its files depend on.
LIBRARIES = ("torch", "onnxruntime", "numpy", "zstandard")


@dataclass(frozen=True)
class Figure:
    """One figure in words: what was measured, what it must reach, what came out.

    ``reached`` is None where nothing had to be reached.
    """

    what: str
    must: str
    measured: str
    reached: bool | None = None


def keep(
    name: str,
    figures: Sequence[Figure],
    *,
    data: str,
    seeds: Sequence[int],
    seconds: float,
    runs: Sequence[Any] = (),
    **more: Any,
) -> Path:
    """Write the record ``name`` of the bench that runs, and the page; print its figures, and return its path.

    ``runs`` are dataclasses, or plain data; ``seconds`` are those that training took, or the measurement.
    """
    bench = Path(sys.argv[0]).stem
    record = {
        "command": " ".join(["python", "-m", f"tests.bench.{bench}", *map(shlex.quote, sys.argv[1:])]),
        "machine": machine_name(),
        "load": round(os.getloadavg()[0], 1),
        "versions": versions(LIBRARIES),
        "data": data,
        "seeds": list(seeds),
        "seconds": round(seconds),
        "figures": [asdict(figure) for figure in figures],
        **more,
        "runs": [run if isinstance(run, dict) else asdict(run) for run in runs],
    }
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{name}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_page()
    for figure in figures:
        verdict = {True: "reached", False: "MISSED", None: ""}[figure.reached]
        print(f"{figure.what}: {figure.measured}  (must be {figure.must or 'told'})  {verdict}", flush=True)
    return path
