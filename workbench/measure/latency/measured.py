"""Latency measured on this machine: a fresh ONNX Runtime session, warm-up, median with its interval.

The median's 95 % interval comes from order statistics (the ranks n/2 ± 0.98 √n), which needs no
assumption about the shape of the noise. Models that are to be compared are measured interleaved, since
the machine drifts by more than the differences of interest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import WorkbenchError
from workbench.measure.estimate import Latency

from .device import device_name, runtime_name

if TYPE_CHECKING:
    import onnx

    Model = onnx.ModelProto | bytes | str

#: Runs of one visit to a model when several are interleaved (at least; and nanoseconds that they
#: should last), and how many of them only warm caches.
_VISIT, _VISIT_NS, _COLD = 12, 4_000_000, 3
#: A round counts if the reference model ran within this share of its usual time in it, and a model's
#: figure is accepted if its rounds' middle half spreads by no more.
NOISE = 0.10


class LatencyError(WorkbenchError):
    """The model could not be timed."""


@dataclass(frozen=True)
class Interleaved:
    """A model's latency among others; ``noisy`` says that the rule of rejection struck."""

    latency: Latency
    noisy: bool


def open_session(
    model: Model,
    threads: int = 1,
    profile_to: str | None = None,
    *,
    fused: bool = True,
    optimized_to: str | None = None,
    unpacked: bool = False,
) -> Any:
    """Return a fresh ONNX Runtime session on the CPU; ``model`` may also be the path of a file.

    Without ``fused`` the graph is run as it is, no operator taken into another. ``optimized_to``: where the
    graph that runs is written. ``unpacked``: weights kept as integers become fp32 when the model is loaded, rather
    than in every run; for graphs of real int8 operators it must stay off.

    Idle threads sleep rather than spin: beside other work, spinning costs more than it saves.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if unpacked:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if not fused:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if optimized_to is not None:
        options.optimized_model_filepath = optimized_to
    if profile_to is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile_to
    data = model if isinstance(model, (bytes, str)) else model.SerializeToString()
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise LatencyError(f"ONNX Runtime could not load the model: {error}") from error


def measure_latency(
    model: Model,
    image_shape: tuple[int, ...],
    batch: int = 1,
    *,
    threads: int = 1,
    seconds: float = 1.0,
    tolerance: float = 0.01,
    cancelled: Callable[[], bool] = lambda: False,
    unpacked: bool = False,
) -> Latency:
    """Measure ``model`` on ``batch`` images ``(C, H, W)``, as kind "measured".

    Runs until the median's 95 % interval is within ``tolerance`` on both sides, for at most
    ``seconds``. ``reason`` says so when the machine was too busy for that. ``cancelled`` is asked
    between runs; what was measured until then is returned. ``unpacked`` is as in ``open_session``.
    """
    run = _runner(model, image_shape, batch, threads, unpacked)
    _warm_up(run, min(0.1, seconds / 10))
    times: list[int] = []
    deadline = time.perf_counter() + seconds
    while True:
        times.extend(time_once(run) for _ in range(5))
        low, median, high = median_interval(times)
        tight = len(times) >= 50 and high - low <= 2 * tolerance * median
        if tight or cancelled() or time.perf_counter() > deadline:
            break
    noisy = high - low > 4 * tolerance * median
    reason = "The machine was busy, so this measurement is uncertain." if noisy else ""
    return _latency(low, median, high, batch, reason)


def measure_interleaved(
    models: Sequence[Model],
    image_shape: tuple[int, ...],
    batch: int = 1,
    *,
    threads: int = 1,
    rounds: int = 15,
    reference: int = 0,
) -> tuple[Interleaved, ...]:
    """Measure several models in turn, so that drift of the machine touches them alike.

    Rule of rejection: in each round every model is visited once, in a new order, and its round figure
    is the median of nine or more runs (4 ms of them) after three warm ones. Rounds in which
    ``models[reference]`` strayed by more than 10 % from its own median are dropped for all. A model's
    figure is the lower quartile of those that remain, since noise only adds; it is ``noisy`` if fewer
    than half of the rounds remain, or if their lowest tenth and their median are more than 10 % apart.
    """
    runs = [_runner(model, image_shape, batch, threads) for model in models]
    for run in runs:
        _warm_up(run, 0.01)
    generator = np.random.default_rng(0)
    figures = np.zeros((rounds, len(runs)))
    for row in figures:
        for index in generator.permutation(len(runs)):
            row[index] = np.median(visit(runs[index]))
    usual = np.median(figures[:, reference])
    kept = figures[np.abs(figures[:, reference] - usual) <= NOISE * usual]
    few = len(kept) * 2 < rounds
    return tuple(_interleaved(column, few, batch) for column in (figures if few else kept).T)


def median_interval(times: Sequence[float] | np.ndarray) -> tuple[float, float, float]:
    """Return low, median and high: the median with its 95 % interval from order statistics."""
    ordered = np.sort(np.asarray(times, dtype=float))
    n = len(ordered)
    reach = 0.98 * math.sqrt(n)
    low = ordered[max(0, math.floor(n / 2 - reach))]
    high = ordered[min(n - 1, math.ceil(n / 2 + reach))]
    return float(low), float(np.median(ordered)), float(high)


def visit(run: Callable[[], Any], lasting: int = _VISIT_NS, least: int = _VISIT - _COLD) -> list[int]:
    """Run three times to warm caches, then for ``lasting`` nanoseconds; return what those runs took.

    They are ``least`` runs or more, and at most 200.
    """
    warm = [time_once(run) for _ in range(_COLD)]
    count = max(least, min(200, int(lasting / max(1, min(warm)))))
    return [time_once(run) for _ in range(count)]


def _interleaved(column: np.ndarray, few: bool, batch: int) -> Interleaved:
    low, usual, high = np.percentile(column, (10, 25, 50))
    noisy = bool(few or high - low > NOISE * usual)
    return Interleaved(_latency(float(low), float(usual), float(high), batch, ""), noisy)


def _runner(
    model: Model, image_shape: tuple[int, ...], batch: int, threads: int, unpacked: bool = False
) -> Callable[[], Any]:
    session = open_session(model, threads, unpacked=unpacked)
    name = session.get_inputs()[0].name
    images = np.random.default_rng(0).standard_normal((batch, *image_shape), dtype=np.float32)
    feed = {name: images}
    try:
        session.run(None, feed)
    except Exception as error:
        raise LatencyError(f"The model did not run on images of shape {image_shape}: {error}") from error
    return lambda: session.run(None, feed)


def _warm_up(run: Callable[[], Any], seconds: float) -> None:
    deadline = time.perf_counter() + seconds
    for _ in range(3):
        run()
    while time.perf_counter() < deadline:
        run()


def time_once(run: Callable[[], Any]) -> int:
    """Return the nanoseconds of one call."""
    start = time.perf_counter_ns()
    run()
    return time.perf_counter_ns() - start


def _latency(low: float, median: float, high: float, batch: int, reason: str) -> Latency:
    figure = Latency(device_name(), runtime_name(), batch, median / 1e6, low / 1e6, high / 1e6, "measured")
    return replace(figure, reason=reason)
