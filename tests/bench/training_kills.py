"""Trainings killed at a random moment, with everything that belongs to them: do they go on to the same weights?

A process that trains and the worker it started get SIGKILL together, at a moment drawn evenly between their start
and the end of an unbroken run; the same training is then started again. Both must come to the very same tensors.
How often there was a checkpoint to go on from, rather than a start too early for one, is told beside it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from tests.bench.record import Figure, keep
from workbench.encodings.artefacts import Artefact

MODEL, DATA = "lenet300", "fashion_mnist"
RECIPE = "- prune: {ratio: 0.9}\n- finetune: {epochs: 15, images: 5000, learning_rate: 0.05}\n"
#: What is killed.
CODE = f"""
import workbench as wb
from workbench.train.jobs.job import train
train(wb.load_model({MODEL!r}), wb.load_dataset({DATA!r}), wb.Recipe.parse({RECIPE!r})).result()
"""
#: Seconds to wait for a training before something is wrong.
PATIENCE = 600


@dataclass(frozen=True)
class Kill:
    """One kill: after so many seconds, where the training was, and what came of the next."""

    after: float
    where: str
    resumed: bool
    equal: bool


class Training:
    """One training with a home of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.home = home

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, as the leader of a group of processes."""
        environment = {**os.environ, "WORKBENCH_HOME": str(self.home)}
        return subprocess.Popen([sys.executable, "-c", CODE], env=environment, start_new_session=True)

    def finish(self) -> bool:
        """Run it to the end; return whether it did."""
        return self.start().wait(PATIENCE) == 0

    def kill_after(self, seconds: float) -> bool:
        """Run it and kill every process of its group after so many seconds; return whether it was still running."""
        process = self.start()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        return False

    def where(self) -> str:
        """Return how far it is: before a checkpoint, at its step, or trained already."""
        if self._results():
            return "trained"
        found = list(self.home.glob("trained/running/*.checkpoint"))
        return f"step {Artefact.load(found[0]).about['step']}" if found else "before a checkpoint"

    def learned(self) -> Mapping[str, torch.Tensor]:
        """Return what it came to."""
        (result,) = self._results()
        return Artefact.load(result).tensors

    def _results(self) -> list[Path]:
        return list(self.home.glob("trained/*.safetensors"))


def main() -> int:
    """Kill, start again and compare, so many times; return 1 where one does not come to the same weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    chance, begin = random.Random(options.seed), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        whole = Training(Path(folder) / "whole")
        if not whole.finish():
            raise RuntimeError("the unbroken training failed")
        took, wanted = time.perf_counter() - begin, whole.learned()
        print(f"an unbroken run takes {took:.0f} s", flush=True)
        kills: list[Kill] = []
        while len(kills) < options.times:
            after, training = chance.uniform(0, took), Training(Path(folder) / f"{len(kills)}-{chance.random()}")
            if training.kill_after(after):  # otherwise it had ended by then
                kills.append(_resume(training, after, wanted))
                print(kills[-1], flush=True)
    good = [kill for kill in kills if kill.resumed and kill.equal]
    places = Counter(kill.where.split(" ")[0] for kill in kills)
    figure = Figure(
        "Job killed at a random moment", f"resumes {options.times} of {options.times} times to equal weights",
        f"{len(good)} of {len(kills)} times to equal weights; killed {places['step']} times "
        f"with a checkpoint, {places['before']} before the first, {places['trained']} after the last step",
        len(good) == len(kills),
    )  # fmt: skip
    seconds = time.perf_counter() - begin
    keep("training_kills", [figure], data=DATA, seeds=[options.seed], seconds=seconds, recipe=RECIPE, runs=kills)
    return 0 if figure.reached else 1


def _resume(training: Training, after: float, wanted: Mapping[str, torch.Tensor]) -> Kill:
    where = training.where()
    resumed = training.finish()
    found = training.learned() if resumed else {}
    equal = found.keys() == wanted.keys() and all(torch.equal(found[name], one) for name, one in wanted.items())
    return Kill(round(after, 2), where, resumed, equal)


if __name__ == "__main__":
    sys.exit(main())
