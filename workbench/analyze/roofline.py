"""What this machine can do at best: operations a second by one thread, and bytes a second beyond its caches.

The roofline (Williams, Waterman and Patterson 2009): a layer of so many operations per byte moved runs at most at
``min(peak, bandwidth × intensity)``. The peak is a square MatMul in ONNX Runtime at one thread, the bandwidth an
addition of long arrays, block by block; both as measured here, and of each MatMul and each block the best of several
tries counts. They are over in less time than a busy machine gives a thread at once, so that other work hardly shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

import numpy as np

SIDE = 256
#: Elements of each of the three arrays added, float32: 64 MiB, beyond the L3 cache of most machines; and of a block.
LENGTH, BLOCK = 1 << 24, 1 << 16
SECONDS, PASSES = 0.25, 6


@dataclass(frozen=True)
class Roofline:
    """``peak`` in GFLOP/s, ``bandwidth`` in GB/s, one thread."""

    peak: float
    bandwidth: float

    @property
    def ridge(self) -> float:
        """FLOP per byte from which the peak, not the memory, is the limit."""
        return self.peak / self.bandwidth

    def attainable(self, intensity: float) -> float:
        """Return the GFLOP/s that a layer of ``intensity`` FLOP per byte reaches at most."""
        return min(self.peak, self.bandwidth * intensity)

    def to_json(self) -> dict[str, float]:
        """Return plain data for JSON."""
        return {**{name: round(value, 3) for name, value in asdict(self).items()}, "ridge": round(self.ridge, 3)}


@cache
def measure_roofline() -> Roofline:
    """Measure this machine, once a process."""
    return Roofline(2 * SIDE**3 / _best(_matmul()) / 1e9, 12 * LENGTH / _addition() / 1e9)


def _best(run: Callable[[], Any]) -> float:
    """Return the least seconds of a run, over at least five and ``SECONDS``."""
    run()
    times: list[float] = []
    while len(times) < 5 or sum(times) < SECONDS:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


def _matmul() -> Callable[[], Any]:
    from onnx import TensorProto, helper

    from workbench.measure.latency.measured import open_session

    shape = [SIDE, SIDE]
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "ab"]
    output = helper.make_tensor_value_info("c", TensorProto.FLOAT, shape)
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "matmul", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    session = open_session(model)
    feeds = {name: np.random.default_rng(0).normal(size=shape).astype(np.float32) for name in "ab"}
    return lambda: session.run(None, feeds)


def _addition() -> float:
    """Return the seconds of an addition, each block's the least of several passes; the others push it out of caches."""
    one, other, total = (np.full(LENGTH, value, np.float32) for value in (1, 2, 0))
    blocks = [slice(start, start + BLOCK) for start in range(0, LENGTH, BLOCK)]
    least = np.full(len(blocks), np.inf)
    for _ in range(PASSES):
        for place, block in enumerate(blocks):
            start = time.perf_counter()
            np.add(one[block], other[block], out=total[block])
            least[place] = min(least[place], time.perf_counter() - start)
    return float(least.sum())
