"""Recipes found within a budget against the same for every layer, at the same size and at the same latency.

*Size.* The budget is the packed size of uniform 4 bits, and of 3 and 2, where more is lost; mixed bits and pruning
against it, nothing trained; what uniform bits gain by the same repairs is told beside it. *Latency.* The budget is the
predicted latency of the same share of channels removed from every group; both with BatchNorm recalibrated behind.
*Time.* From "under 100 KB" to the first measured answer and to the last, on a history that knows nothing. Searched on
the validation split; the table is on the test split.

Each part keeps a record. What it finds does not depend on how busy the machine is; the times do, and the budgets in
milliseconds do a little.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from tests.bench.record import Figure, keep
from workbench.data.load import load_dataset
from workbench.recipe import Recipe
from workbench.search.allocation import Allocation, Answer
from workbench.search.budget import Budget
from workbench.search.job import AllocationJob
from workbench.session import Session
from workbench.snapshot import Snapshot

MODEL = "resnet20"
UNIFORM = "- quantize: {{bits: {bits}}}"
CHANNELS = "- prune: {{granularity: filter, scope: layer, ratio: {ratio}}}\n- recalibrate"
REPAIR = "- recalibrate"
BITS, RATIOS = (4, 3, 2), (0.25, 0.5)
#: Bytes of the timed budget; seconds to its first and to its last answer; the share of lost points to win back.
TIMED, FIRST, LAST, SHARE = 100_000, 30.0, 180.0, 0.5

#: The figures of each search of a part, and the run behind them.
Measured = Iterator[tuple[list[Figure], dict[str, Any]]]


def main() -> int:
    """Print the tables; return 1 where what must be reached is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["time", "size", "latency"], metavar="time|size|latency")
    parts = parser.parse_args().parts
    torch.set_num_threads(2)
    data = load_dataset("fashion_mnist")
    missed: list[str] = []
    measures = {"time": _time, "size": _size, "latency": _latency}
    with TemporaryDirectory() as folder, Session(MODEL, data, history=str(Path(folder) / "history.sqlite")) as session:
        dense = session.measure()
        print(f"{MODEL}, dense {_percent(dense):.2f} % on the test split", flush=True)
        for part, measure in measures.items():
            if part in parts:
                start, figures, runs = time.perf_counter(), [], []
                for found, run in measure(session, dense):
                    figures += found
                    runs.append(run)
                    seconds = time.perf_counter() - start  # kept after each search: one that is stopped tells so far
                    keep(f"allocation_{part}", figures, data=data.name, seeds=[0], seconds=seconds, runs=runs)
                missed += [figure.what for figure in figures if figure.reached is False]
    print("missed: " + ("; ".join(missed) or "nothing"))
    return 1 if missed else 0


def _time(session: Session, _: Snapshot) -> Measured:
    """Time "under 100 KB" on a history that knows nothing of the options."""
    start, before = time.perf_counter(), time.process_time()
    found = AllocationJob(session, Budget("bytes", TIMED)).result()
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    first = found.first or float("inf")
    _show(found)
    what = f"{MODEL} under {TIMED:,} bytes, from the click to the"
    told = f"{cpu:.0f} s of processor time, {found.images} images an option"
    yield (
        [
            Figure(f"{what} first measured answer", f"≤ {FIRST:.0f} s", f"{first:.0f} s", first <= FIRST),
            Figure(f"{what} last answer", f"≤ {LAST:.0f} s", f"{seconds:.0f} s, {told}", seconds <= LAST),
        ],
        {"first": first, "last": seconds, "processor": cpu, **_run(found)},
    )


def _size(session: Session, dense: Snapshot) -> Measured:
    """Print what mixed bits and pruning win back of what uniform bits lose."""
    for bits in BITS:
        uniform = session.measure(UNIFORM.format(bits=bits))
        assert uniform.size is not None
        limit = uniform.size.bytes
        found = AllocationJob(session, Budget("bytes", limit), base=Recipe()).result()
        before, after = (_percent(dense) - _percent(each) for each in (uniform, found.best.reported))
        share = (before - after) / before if before > 0 else float("nan")
        same = found.uniform and found.uniform.reported
        words = (
            f"{share:.0%}: {after:.2f} points lost at {found.best.cost:,.0f} bytes, uniform {before:.2f} at {limit:,}, "
            f"uniform with repairs {_percent(dense) - _percent(same):.2f}"
        )
        what = f"{MODEL} at the packed size of uniform {bits} bits: lost points won back, nothing trained"
        reached = found.best.cost <= limit and (before <= 0 or share >= SHARE)
        _show(found)
        run = {"uniform_bits": bits, "bytes": limit, "uniform_test": _percent(uniform), **_run(found)}
        yield [Figure(what, f"≥ {SHARE:.0%}", words, reached)], run


def _latency(session: Session, _: Snapshot) -> Measured:
    """Print what channels chosen by group keep, against the same share of every group, at the same latency."""
    session.learn_latency()
    for ratio in RATIOS:
        uniform = session.measure(CHANNELS.format(ratio=ratio))
        assert uniform.latency is not None
        found = AllocationJob(session, Budget("ms", uniform.latency.ms), base=Recipe.parse(REPAIR)).result()
        theirs, ours = _percent(uniform), _percent(found.best.reported)
        words = f"{ours:.2f} % at {found.best.cost:.3f} ms, uniform {theirs:.2f} % at {uniform.latency.ms:.3f} ms"
        what = f"{MODEL} at the predicted latency of {ratio:.0%} fewer channels everywhere, recalibrated"
        reached = found.best.cost <= uniform.latency.ms and ours >= theirs
        _show(found)
        run = {"ratio": ratio, "ms": uniform.latency.ms, "uniform_test": theirs, **_run(found)}
        yield [Figure(what, "never worse than uniform", words, reached)], run


def _run(found: Allocation) -> dict[str, Any]:
    """Return the answers as the record keeps them: percent on the two splits, what they cost, and the best recipe."""
    named = (("best", found.best), ("greedy", found.greedy), ("uniform", found.uniform))
    answers = {name: _kept(answer) for name, answer in named if answer is not None}
    return {"answers": answers, "recipe": found.recipe.to_data(), "remarks": list(found.remarks)}


def _kept(answer: Answer) -> dict[str, Any]:
    return {
        "foreseen": round(100 * answer.predicted.value, 2), "validation": round(100 * answer.accuracy, 2),
        "test": round(_percent(answer.reported), 2), "cost": round(answer.cost, 4), "repair": answer.repair,
    }  # fmt: skip


def _show(found: Allocation) -> None:
    """Print the answers side by side, foreseen and measured."""
    for name, answer in (("best", found.best), ("greedy", found.greedy), ("uniform", found.uniform)):
        if answer is not None:
            predicted = answer.predicted
            print(
                f"    {name:8s} foreseen {100 * predicted.value:.2f} ± {50 * (predicted.high - predicted.low):.2f}, "
                f"validation {100 * answer.accuracy:.2f}, test {_percent(answer.reported):.2f}; "
                f"divergence {answer.divergence:.4f} foreseen, {answer.diverged or 0:.4f} measured",
                flush=True,
            )
    for text in found.remarks:
        print(f"    {text}")


def _percent(snapshot: Snapshot | None) -> float:
    figure = snapshot.accuracy if snapshot else None
    return 100 * figure.value if figure else float("nan")


if __name__ == "__main__":
    sys.exit(main())
