"""Recipes found within a budget against the same for every layer, at the same size and at the same latency.

*Size.* The budget is the packed size of uniform 4 bits, and of 3 and 2, where more is lost; mixed bits and pruning
against it, nothing trained. *Latency.* The budget is the predicted latency of the same share of channels removed from
every group; both with BatchNorm recalibrated behind. *Time.* From "under 100 KB" to the first measured answer and to
the last, on a history that knows nothing. Searched on the validation split; the table is on the test split.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from workbench.data.load import load_dataset
from workbench.recipe import Recipe
from workbench.search.allocation import Allocation
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


def main() -> int:
    """Print the tables; return 1 where what must be reached is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", default=["time", "size", "latency"], metavar="time|size|latency")
    parts = parser.parse_args().parts
    torch.set_num_threads(2)
    data = load_dataset("fashion_mnist")
    missed: list[str] = []
    with TemporaryDirectory() as folder, Session(MODEL, data, history=str(Path(folder) / "history.sqlite")) as session:
        dense = session.measure()
        print(f"{MODEL}, dense {_percent(dense):.2f} % on the test split", flush=True)
        if "time" in parts:
            missed += _time(session)
        if "size" in parts:
            missed += _size(session, dense)
        if "latency" in parts:
            session.learn_latency()
            missed += _latency(session)
    print("missed: " + ("; ".join(missed) or "nothing"))
    return 1 if missed else 0


def _time(session: Session) -> list[str]:
    start, before = time.perf_counter(), time.process_time()
    found = AllocationJob(session, Budget("bytes", TIMED)).result()
    seconds, cpu = time.perf_counter() - start, time.process_time() - before
    first = found.first or float("inf")
    print(
        f"under {TIMED:,} bytes: first measured answer after {first:.0f} s (must be ≤ {FIRST:.0f}), the last after "
        f"{seconds:.0f} s (must be ≤ {LAST:.0f}); {cpu:.0f} s of processor time, {found.images} images an option"
    )
    _show(found)
    late = [f"first answer after {first:.0f} s"] if first > FIRST else []
    return late + ([f"last answer after {seconds:.0f} s"] if seconds > LAST else [])


def _size(session: Session, dense: Snapshot) -> list[str]:
    """Print what mixed bits and pruning win back of what uniform bits lose; the loss at 4 bits decides."""
    missed = []
    print(f"\n{'uniform':>8} {'bytes':>9} {'lost':>6} {'found, bytes':>12} {'lost':>6} {'back':>6}")
    for bits in BITS:
        uniform = session.measure(UNIFORM.format(bits=bits))
        assert uniform.size is not None
        found = AllocationJob(session, Budget("bytes", uniform.size.bytes), base=Recipe()).result()
        best = found.best.reported
        assert best is not None
        before, after = _percent(dense) - _percent(uniform), _percent(dense) - _percent(best)
        share = (before - after) / before if before > 0 else float("nan")
        print(
            f"{bits:>6} b {uniform.size.bytes:>9,} {before:>6.2f} {found.best.cost:>12,.0f} "
            f"{after:>6.2f} {share:>6.0%}",
            flush=True,
        )
        _show(found)
        if found.best.cost > uniform.size.bytes:
            missed.append(f"the budget of {bits} bits is overdrawn")
        if before > 0 and share < SHARE:
            missed.append(f"{share:.0%} won back at {bits} bits")
    return missed


def _latency(session: Session) -> list[str]:
    missed = []
    print(f"\n{'channels':>8} {'ms':>7} {'accuracy':>8} {'found, ms':>9} {'accuracy':>8}")
    for ratio in RATIOS:
        uniform = session.measure(CHANNELS.format(ratio=ratio))
        assert uniform.latency is not None
        budget = Budget("ms", uniform.latency.ms)
        found = AllocationJob(session, budget, base=Recipe.parse(REPAIR)).result()
        best = found.best.reported
        assert best is not None
        print(
            f"{'-' + format(ratio, '.0%'):>8} {uniform.latency.ms:>7.3f} {_percent(uniform):>8.2f} "
            f"{found.best.cost:>9.3f} {_percent(best):>8.2f}",
            flush=True,
        )
        _show(found)
        if _percent(best) < _percent(uniform):
            missed.append(f"worse than uniform at {ratio:.0%} of the channels")
    return missed


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
