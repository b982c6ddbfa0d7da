"""Every model of the zoo in every format installed: accuracy in the runtime against the simulation, bytes, times.

``--models``, ``--formats`` and ``--images`` narrow it down; the whole takes some hours on one core. Each model has
a record, to which a run adds its formats, so that it can be run in pieces, in several environments, and on fewer
images where a runtime is slow: each format says on how many it was judged.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from tests.bench.record import Figure, keep
from tests.bench.table import read_records
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.deploy.export import Export, Logits, judge, simulate
from workbench.deploy.format import Source
from workbench.deploy.formats import FORMATS, find_format
from workbench.deploy.microcontroller.lower import LoweringError
from workbench.deploy.writing import prepare, write
from workbench.errors import WorkbenchError
from workbench.models.load import load_model
from workbench.models.zoo import ARCHITECTURES
from workbench.recipe import Recipe

#: What a file may differ from the torch simulation of the same recipe, in points.
MOST = 0.2


def main() -> int:
    """Print a row for each model and format; return 1 where one differs more than it may, or fails."""
    parser = argparse.ArgumentParser(prog="exports", description=__doc__)
    parser.add_argument("--models", default=",".join(ARCHITECTURES))
    parser.add_argument("--formats", default=",".join(name for name, entry in FORMATS.items() if entry.installed))
    parser.add_argument("--images", type=int, default=10_000)
    options = parser.parse_args()
    data = load_dataset("fashion_mnist")
    test = data["test"].take(torch.arange(min(options.images, len(data["test"]))))
    data = dataclasses.replace(data, splits={**data.splits, "test": test})
    print(f"{len(test):,} test images; at most {MOST} points between runtime and torch simulation")
    print(f"{'model':<13}{'format':<17}{'bytes':>10}{'runtime %':>10}{'torch %':>9}{'differ':>8}{'agree %':>9}"
          f"{'load ms':>9}{'ms':>8}  int8 kernels")  # fmt: skip
    missed = []
    for model in options.models.split(","):
        start, runs = time.perf_counter(), []
        for name, found in _exports(model, options.formats.split(","), data):
            print(f"{model:<13}{name:<17}{found if isinstance(found, str) else _row(found)}", flush=True)
            runs.append({**_run(name, found), "images": len(test)})
            if not (_within(runs[-1]) or "refused" in runs[-1]):
                missed.append(f"{model} as {name}")
        _keep(model, runs, time.perf_counter() - start)
    print(f"not within bounds: {', '.join(missed)}" if missed else "every file is within bounds")
    return 1 if missed else 0


def _run(name: str, found: Export | str) -> dict[str, Any]:
    """Return what is recorded of a format: percents, bytes, milliseconds; or why there is no file.

    That is ``refused`` where the format lacks an operator, and ``failed`` otherwise.
    """
    if isinstance(found, str):
        kind, _, why = found.partition(": ")
        return {"format": name, kind: why}
    run = {"format": name, "bytes": found.nbytes, "simulated": round(100 * found.simulated.value, 2)}
    if found.accuracy is None or found.agreement is None:
        return run
    kernels = sum(row.dtype == "int8" for row in found.kernels)
    return {
        **run, "accuracy": round(100 * found.accuracy.value, 2), "agreement": round(100 * found.agreement.value, 2),
        "ms": found.ms and round(found.ms, 3), "runtime": found.runtime, "int8_kernels": kernels,
        "kernels": len(found.kernels),
    }  # fmt: skip


def _within(run: dict[str, Any]) -> bool:
    return "bytes" in run and round(abs(run.get("accuracy", run["simulated"]) - run["simulated"]), 6) <= MOST


def _keep(model: str, runs: list[dict[str, Any]], seconds: float) -> None:
    """Add ``runs`` to the model's record, in the place of those of the same formats."""
    name, before = f"exports_{model}", {}
    if (old := read_records().get(name)) is not None:
        before, seconds = {run["format"]: run for run in old["runs"]}, seconds + old["seconds"]
    before.update((run["format"], run) for run in runs)
    every = [before[format_] for format_ in FORMATS if format_ in before]
    ran = [run for run in every if "accuracy" in run]
    worst = max(ran, key=lambda run: abs(run["accuracy"] - run["simulated"]), default=None)
    refused = [run["format"] for run in every if "refused" in run]
    outside = [run["format"] for run in every if not _within(run) and run["format"] not in refused]
    told = f"{sum(map(_within, every))} of {len(every)} formats, {len(ran)} of them run"
    if worst is not None:
        told += f"; most: {worst['format']} {worst['accuracy'] - worst['simulated']:+.2f}"
    for word, names in (("refused, the operator named", refused), ("not", outside)):
        if names:
            told += f"; {word}: {', '.join(names)}"
    what = f"{model} exported, accuracy in its runtime against the torch simulation"
    figure = Figure(what, f"within {MOST} points", told, not outside)
    keep(name, [figure], data="fashion_mnist", seeds=[0], seconds=seconds, runs=every)


def _exports(model: str, names: list[str], data: Dataset) -> Iterator[tuple[str, Export | str]]:
    """Yield format → what its file does, or why there is none; formats of one recipe share its simulation."""
    done: dict[str, tuple[Source, Logits]] = {}
    for name in names:
        chosen = find_format(name)
        recipe, added = chosen.complete(Recipe())
        if recipe.hash not in done:
            source = prepare(load_model(model), data, recipe)
            done[recipe.hash] = source, simulate(source, data["test"], data.normalization)
        source, simulated = done[recipe.hash]
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                files = write(chosen, source, Path(folder))
                yield name, judge(chosen, source, files, data, "test", simulated, added=added)
            except LoweringError as error:  # an operator that the format has no kernel for, named
                yield name, f"refused: {error}"
            except Exception as error:  # whatever a runtime raises: the other formats are still to be judged
                told = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
                yield name, f"failed: {' '.join(told.split())[:300]}"


def _row(found: Export) -> str:
    head = f"{found.nbytes:>10,}"
    if found.accuracy is None or found.agreement is None:
        return f"{head}{'–':>10}{100 * found.simulated.value:>9.2f}  not run here"
    kernels = sum(row.dtype == "int8" for row in found.kernels)
    told = f"{kernels} of {len(found.kernels)}" if found.kernels else "not told"
    return (
        f"{head}{100 * found.accuracy.value:>10.2f}{100 * found.simulated.value:>9.2f}{_differ(found):>8.2f}"
        f"{100 * found.agreement.value:>9.2f}{found.load_ms:>9.0f}{found.ms:>8.2f}  {told}"
    )


def _differ(found: Export) -> float:
    """Return the points that the runtime has more than the simulation; 0 where it did not run here."""
    return 0.0 if found.accuracy is None else 100 * (found.accuracy.value - found.simulated.value)


if __name__ == "__main__":
    sys.exit(main())
