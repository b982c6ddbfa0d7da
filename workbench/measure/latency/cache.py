"""What it costs a run that a network's weights do not all stay in the processor's near cache.

Kernels are timed in graphs of few weights, which the cache keeps from one run to the next. A network of
megabytes pushes its own weights out, and each run fetches them from further away: products of one row then
take several times as long. How much longer depends on all of the network's weights together, and little on the
kernel, so it is measured once on chains of such products and charged by the byte.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .kernel import Kernel
from .measured import open_session, visit
from .sheet import make_model
from .signature import PRODUCTS

#: Features of the products in a chain, and bytes of weights that each of them has.
_FEATURES = 256
_STEP = 4 * _FEATURES**2
#: Products in the chains that are timed: up to 16 MB. The first two tell what a product takes from the cache.
_LENGTHS = (1, 2, 4, 6, 8, 12, 16, 32, 64)
#: Rounds in which the chains are timed in turn, and nanoseconds that a visit to one lasts.
_ROUNDS, _VISIT_NS = 10, 2_000_000


@dataclass(frozen=True)
class WeightCache:
    """Nanoseconds that a byte of weights costs in a run, beyond a kernel's own time, by the bytes that a run touches.

    ``sizes``: bytes, increasing; ``ns_per_byte``: one for each. In between it is interpolated. More bytes never cost
    less: where they seem to, the fewer were disturbed.
    """

    sizes: tuple[int, ...] = (0,)
    ns_per_byte: tuple[float, ...] = (0.0,)

    def cost(self, touched: int) -> float:
        """Return nanoseconds for each byte of weights in a network whose runs touch so many bytes."""
        rising = np.minimum.accumulate(self.ns_per_byte[::-1])[::-1]
        return float(np.interp(touched, self.sizes, rising))

    def least(self, other: WeightCache | None) -> WeightCache:
        """Return the quieter of two measurements, size by size."""
        if other is None or other.sizes != self.sizes:
            return self
        return WeightCache(self.sizes, tuple(map(min, self.ns_per_byte, other.ns_per_byte)))

    def to_json(self) -> list[list[float]]:
        """Return plain data for JSON."""
        return [[size, round(ns, 5)] for size, ns in zip(self.sizes, self.ns_per_byte, strict=True)]

    @classmethod
    def from_json(cls, rows: Sequence[Sequence[float]]) -> WeightCache:
        """Raise ``ValueError`` unless there are rows of two numbers."""
        if not rows:
            raise ValueError("no sizes")
        sizes, costs = zip(*((int(size), float(ns)) for size, ns in rows), strict=True)
        return cls(sizes, costs)


def measure_cache(stop: Callable[[], bool] = lambda: False) -> WeightCache:
    """Time chains of products of growing length, in turn; ``stop`` cuts it to one round."""
    random = np.random.default_rng(0)
    feeds = {"x": random.standard_normal((1, _FEATURES), dtype=np.float32)}
    runs = [partial(open_session(_chain(length, random)).run, None, feeds) for length in _LENGTHS]
    rounds: list[list[float]] = []
    while not rounds or (len(rounds) < _ROUNDS and not stop()):
        rounds.append([float(np.median(visit(run, _VISIT_NS))) for run in runs])
    times = np.percentile(rounds, 25, axis=0)  # noise only adds
    one, near = times[0], times[1] - times[0]
    lengths = np.array(_LENGTHS[1:])
    further = np.maximum(0.0, (times[1:] - one) / (lengths - 1) - near) / _STEP
    return WeightCache(tuple(int(length) * _STEP for length in lengths), tuple(map(float, further)))


def weight_bytes(kernel: Kernel) -> int:
    """Return the bytes of a kernel's weight; none for one read off runs of the network, whose time has it in it."""
    if kernel.layout == "seen" or kernel.type not in (*PRODUCTS, "DepthwiseConv"):
        return 0
    inputs = 1 if kernel.type == "DepthwiseConv" else kernel.inputs // kernel.groups
    return inputs * kernel.outputs * math.prod(kernel.window) * (4 if kernel.dtype == "fp32" else 1)


def fetched(kernels: Iterable[Kernel]) -> list[int]:
    """Return for each kernel the bytes of weights that it is the first to read."""
    met: set[str] = set()
    found = []
    for kernel in kernels:
        found.append(0 if kernel.weight in met and kernel.weight else weight_bytes(kernel))
        met.add(kernel.weight)
    return found


def working_set(kernels: Sequence[Kernel], weights: Sequence[int]) -> int:
    """Return the bytes that a run touches: weights (see :func:`fetched`), and the largest kernel's activations."""
    activations = (kernel.bytes - weight_bytes(kernel) for kernel in kernels)
    return sum(weights) + max(0, *activations) if kernels else 0


def _chain(length: int, random: np.random.Generator) -> Any:
    from onnx import helper, numpy_helper

    names = ["x", *(f"y{index}" for index in range(length))]
    nodes = [helper.make_node("MatMul", [names[index], f"w{index}"], [names[index + 1]]) for index in range(length)]
    # of equal weights ONNX Runtime would keep one
    values = random.standard_normal((length, _FEATURES, _FEATURES), dtype=np.float32) * 0.05
    weights = [numpy_helper.from_array(one, f"w{index}") for index, one in enumerate(values)]
    return make_model(nodes, {"x": (1, _FEATURES)}, names[-1:], weights)
