"""ONNX Runtime's profiler, and what it costs.

The profiler gives each node's duration, but adds about 2 µs to it, as much as a small kernel takes, and
more to nodes with more inputs, whose shapes it writes down. How much it adds is found once, on graphs
that run with it and without it (:func:`calibrate`).
"""

from __future__ import annotations

import json
import math
import tempfile
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .kernel import Kernel
from .measured import LatencyError, open_session, time_once
from .sheet import Sheet, chain

#: Profiled runs of a graph.
_RUNS = 20
#: Times that calibration is tried; the least counts, since noise only adds.
_TRIES = 8
#: How much more the profiler adds for each input of a node.
PER_INPUT = 0.09
#: Least time of a node, in nanoseconds: what calling it costs.
_LEAST = 200.0


@dataclass(frozen=True)
class Node:
    """A node that ran. ``ns``: its duration, the profiler's share included; ``elements`` of its first
    input and output, without the padding of blocked layouts where it is a reordering; ``read`` and
    ``written``: the shapes of all of them, but for constants that ONNX Runtime has packed."""

    name: str
    op: str
    inputs: int
    elements: tuple[int, int]
    int8: bool
    ns: float
    dtype: str = "float"
    read: tuple[tuple[int, ...], ...] = ()
    written: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Calibration:
    """Nanoseconds of three graphs, of which the profiler's share and the cost of a run follow.

    ``alone``: a graph of one node that does nothing. ``many``: of many small kernels; ``few``: a chain
    of eight; ``…_profiled``: the sum of their nodes under the profiler, ``…_weight``: the nodes,
    weighted by their inputs.
    """

    alone: float
    many: float
    many_profiled: float
    many_weight: float
    few: float
    few_profiled: float
    few_weight: float

    @property
    def profiler_ns(self) -> float:
        """What the profiler adds to a node without inputs."""
        return (self.many_profiled - (self.many - self.alone)) / self.many_weight

    @property
    def run_ns(self) -> float:
        """What a run costs beside its nodes."""
        return max(0.0, self.few - (self.few_profiled - self.profiler_ns * self.few_weight))

    def net(self, ns: float, inputs: int) -> float:
        """Return a node's nanoseconds without the profiler's share."""
        return max(_LEAST, ns - self.profiler_ns * (1 + PER_INPUT * inputs))

    def least(self, other: Calibration) -> Calibration:
        """Return the quieter of two calibrations, figure by figure."""
        return Calibration(*map(min, astuple(self), astuple(other)))

    def to_json(self) -> dict[str, float]:
        """Return plain data for JSON."""
        return {name: round(value, 2) for name, value in asdict(self).items()}


def calibrate(stop: Callable[[], bool] = lambda: False) -> Calibration:
    """Measure what the profiler and a run cost here; ``stop`` cuts it to one try of each graph."""
    small = Kernel("", "Conv", "fp32", "direct", 1, 16, (4, 4), (4, 4), window=(1, 1), stride=(1, 1))
    sheet = Sheet(False)
    for index in range(16):
        sheet.add(index, small)
    graphs = [(chain(1), _SCALAR), (sheet.model(), sheet.feeds), (chain(8), _SCALAR)]
    alone, many, few = (_quickest(model, feeds, stop) for model, feeds in graphs)
    return Calibration(alone[0], *many, *few)


class Canary:
    """A graph that is run between others, to notice when the machine is busy with something else."""

    def __init__(self) -> None:
        kernel = Kernel("", "Conv", "fp32", "blocked", 32, 32, (14, 14), (14, 14), window=(3, 3))
        sheet = Sheet(False)
        for index in range(3):
            sheet.add(index, kernel)
        self._session, self._feeds = open_session(sheet.model()), sheet.feeds
        self._best = math.inf

    def calm(self) -> bool:
        """Whether the graph ran within 10 % of its best time so far."""
        times = [time_once(lambda: self._session.run(None, self._feeds)) for _ in range(12)]
        now = float(np.median(times[2:]))
        self._best = min(self._best, now)
        return now <= 1.1 * self._best


def profile(model: Any, feeds: dict[str, np.ndarray], runs: int = _RUNS) -> list[Node]:
    """Run ``model`` under the profiler, so often (at least twice), and return its nodes.

    Raises ``LatencyError`` where the profiler, which writes a file of some MB meanwhile, has no place for it.
    """
    prefix = Path(tempfile.gettempdir()) / f"kernels-{uuid.uuid4().hex}"
    session = open_session(model, profile_to=str(prefix))
    for _ in range(runs):
        session.run(None, feeds)
    path = Path(session.end_profiling())
    try:
        return read_nodes(json.loads(path.read_text()))
    except (OSError, ValueError) as error:  # cut short, or never there: the profiler does not say so itself
        raise LatencyError(
            f"Kernels cannot be timed here, since the profiler's file could not be written to {path.parent}: "
            "make room there, or name another folder in TMPDIR."
        ) from error
    finally:
        path.unlink(missing_ok=True)


_SCALAR = {"x": np.zeros((1, 4), np.float32)}


def _quickest(model: Any, feeds: dict[str, np.ndarray], stop: Callable[[], bool]) -> tuple[float, float, float]:
    """Return the run without the profiler, the sum of the nodes with it, and their weight."""
    session = open_session(model)
    plain, profiled = [], []
    for _ in range(_TRIES):
        times = [time_once(lambda: session.run(None, feeds)) for _ in range(_RUNS)]
        plain.append(float(np.percentile(times[3:], 25)))
        nodes = profile(model, feeds)
        profiled.append(sum(node.ns for node in nodes))
        if stop():
            break
    return min(plain), min(profiled), sum(1 + PER_INPUT * node.inputs for node in nodes)


def read_nodes(events: Iterable[dict[str, Any]]) -> list[Node]:
    """Return the nodes in the events of a profile that ONNX Runtime wrote, the first run left out."""
    suffix = "_kernel_time"
    grouped: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(suffix):
            grouped[event["name"].removesuffix(suffix)].append(event)
    return [_node(name, group) for name, group in grouped.items()]


def _node(name: str, group: list[dict[str, Any]]) -> Node:
    details = group[0]["args"]
    durations = np.sort([event["dur"] for event in group[1:]])
    # Noise only adds, so the longest are left out; of the rest the mean, since durations come in whole
    # microseconds and their spread over neighbouring ones tells the fraction.
    middle = durations[durations <= np.percentile(durations, 25) * 1.1 + 1]
    sizes = [math.prod(next(iter(entry.values()))) for entry in details["input_type_shape"][:1]]
    written = [math.prod(next(iter(entry.values()))) for entry in details["output_type_shape"][:1]]
    kinds = {next(iter(entry)) for entry in details["input_type_shape"][:1]}
    read, written = sizes[0] if sizes else 0, written or [0]
    if details["op_name"] == "ReorderOutput":
        read = written[0]
    elif details["op_name"] == "ReorderInput":
        written = [read]
    int8 = bool(kinds & {"uint8", "int8"})
    count = len(details["input_type_shape"])
    dtype = next(iter(kinds), "float")
    given, made = (_shapes(details[f"{side}_type_shape"]) for side in ("input", "output"))
    ns = float(middle.mean()) * 1e3
    return Node(name, details["op_name"], count, (read, written[0]), int8, ns, dtype, given, made)


def _shapes(entries: Iterable[dict[str, list[int]]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(next(iter(entry.values()))) for entry in entries)
