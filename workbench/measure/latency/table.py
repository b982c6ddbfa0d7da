"""Kernel times of this machine, measured once and kept on disk.

A table belongs to one processor, version of ONNX Runtime and number of threads: signature → coordinates →
nanoseconds under the profiler, and inputs of the node. It grows in the background with the kernels that a model
may need. Writers replace its file whole (``stored.py``), after taking in what others wrote meanwhile; a file that
cannot be read counts as empty, since everything in it can be measured again.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.data.alone import alone

from .cache import WeightCache, measure_cache, weight_bytes
from .device import Device, cpu_identity, this_machine
from .graph import Shape
from .kernel import Kernel
from .measured import LatencyError
from .signature import PRODUCTS, place
from .variants import bare, variants

if TYPE_CHECKING:
    from .profiler import Calibration
    from .stored import Raw

Point = tuple[int, int]

#: Kernels measured in one graph, and bytes of weights that they may have together: more would push
#: each other out of the cache, which a small model's weights do not.
_PARADE, _PARADE_BYTES = 12, 1 << 18
#: Measured kernels of a kind that are enough for those whose time is nearly a straight line.
_FEW = 6
#: Times that each kernel is measured while the machine is quiet, and times at most.
_QUIET, _VISITS = 2, 4


class KernelTable:
    """What is known of a machine's kernels. Safe to read while another thread grows it.

    ``block``: channels in a block of ONNX Runtime's layout here. ``cache``: what weights cost that do not stay near;
    None until it is measured. ``version`` goes up whenever something was learnt.
    """

    def __init__(self, device: Device, path: Path | None = None, *, block: int = 16) -> None:
        self.device, self.path, self.block = device, path, block
        self.calibration: Calibration | None = None
        self.cache: WeightCache | None = None
        self.version = 0
        self._points: dict[str, dict[Point, Raw]] = {}
        self._lock = threading.Lock()
        self._growing = threading.Lock()

    @property
    def run_ns(self) -> float:
        """Nanoseconds that a run costs beside its kernels."""
        return self.calibration.run_ns if self.calibration else 5000.0

    def ns_per_byte(self, touched: int) -> float:
        """Return what a byte of weights costs a network whose runs touch so many bytes; see ``cache.py``."""
        return self.cache.cost(touched) if self.cache else 0.0

    def points(self, signature: str) -> Mapping[Point, float]:
        """Return what was measured under ``signature``: coordinates → nanoseconds."""
        if self.calibration is None:
            return {}
        with self._lock:
            raw = dict(self._points.get(signature, {}))
        return {point: self.calibration.net(*entry) for point, entry in raw.items()}

    def signatures(self) -> tuple[str, ...]:
        """Return the signatures that have measurements."""
        with self._lock:
            return tuple(self._points)

    def wanted(self, kernels: Iterable[Kernel], met: Iterable[Kernel] = ()) -> list[Kernel]:
        """Return the kernels to be measured before recipes on ``kernels`` can be predicted well.

        Of those that recipes have ``met``, where few of their kind are known.
        """
        from .sheet import can_build

        missing: dict[tuple[str, Point], Kernel] = {}

        def take(kernel: Kernel, *, always: bool) -> None:
            signature, point = place(kernel, self.block)
            known = self._points.get(signature, {})
            if point not in known and (always or len(known) < _FEW) and can_build(kernel):
                missing.setdefault((signature, point), kernel)

        for kernel in variants(kernels, self.block):
            take(kernel, always=kernel.type in PRODUCTS or kernel.type == "DepthwiseConv")
        for kernel in met:
            take(bare(kernel), always=False)
        return list(missing.values())

    def unseen(self, kernels: Iterable[Kernel]) -> int:
        """Return how many kernels that were read off a run have no measurement of their kind."""
        places = {place(kernel, self.block)[0] for kernel in kernels if kernel.layout == "seen"}
        return len(places - self._points.keys())

    def observe(self, model: Any, image_shape: Shape) -> None:
        """Learn from running an ONNX ``model`` as it is the times of the nodes that only it has."""
        from .seen import observe

        with self._growing:
            if self.calibration is None:
                self._calibrate(lambda: True)
            assert self.calibration is not None
            self._learn(observe(model, image_shape, self.calibration, self.block))
            self.version += 1
            self.save()

    def grow(
        self,
        kernels: Iterable[Kernel],
        met: Iterable[Kernel] = (),
        *,
        seconds: float = 20.0,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> int:
        """Measure what :meth:`wanted` names, for at most ``seconds``; return how many were measured.

        Meant for a background thread; one at a time grows a table. Saves when done.
        """
        deadline = time.perf_counter() + seconds

        def stop() -> bool:
            return cancelled() or time.perf_counter() > deadline

        # two processes at once would disturb each other's times
        one = alone(self.path.with_suffix(".growing"), stop) if self.path else contextlib.nullcontext()
        with self._growing, one:
            if self.path is not None and self._take_in(self.path):  # another process may have grown it
                self.version += 1
            wanted = self.wanted(kernels, met)
            if not wanted or stop():
                return 0
            self._calibrate(stop)
            measured = self._visit(wanted, stop)
            self._calibrate(stop)
            self.version += 1
            self.save()
        return measured

    def _visit(self, wanted: Sequence[Kernel], stop: Callable[[], bool]) -> int:
        """Measure round after round, until each parade had quiet visits enough or too many noisy ones."""
        from .parade import run_parade
        from .profiler import Canary

        canary = Canary()
        measured = 0
        waiting = [(parade, 0, 0) for parade in _parades(wanted)]
        while waiting:
            later = []
            for parade, visits, quiet in waiting:
                if stop():
                    return measured
                calm = canary.calm()
                try:
                    nodes = run_parade(parade)
                except LatencyError:  # these stay unknown; the others are measured
                    continue
                for timed in nodes:
                    signature, point = _entry(timed, self.block)
                    self._learn({signature: {point: (timed.node.ns, timed.node.inputs)}})
                measured += len(parade) if visits == 0 else 0
                quiet += calm and canary.calm()
                if quiet < _QUIET and visits + 1 < _VISITS:
                    later.append((parade, visits + 1, quiet))
            waiting = later
            self.version += 1
        return measured

    def _calibrate(self, stop: Callable[[], bool]) -> None:
        from .profiler import calibrate

        self._hold(calibrate(stop), self.cache or measure_cache(stop))

    def _hold(self, calibration: Calibration, cache: WeightCache) -> None:
        """Take in what was measured; of two figures for one thing the smaller, since noise only adds."""
        self.calibration = calibration.least(self.calibration) if self.calibration else calibration
        self.cache = cache.least(self.cache)

    def _learn(self, found: Mapping[str, Mapping[Point, Raw]]) -> None:
        """Take in measurements; of two for one point the smaller, since noise only adds."""
        with self._lock:
            for signature, points in found.items():
                known = self._points.setdefault(signature, {})
                for point, raw in points.items():
                    known[point] = min(raw, known.get(point, raw))

    def save(self) -> None:
        """Write the table, merged with what is on disk. A full disk is no error: it stays in memory."""
        from .stored import Stored, locked, replace_table

        if self.path is None:
            return
        about = {
            "cpu": cpu_identity(), "device": self.device.name, "runtime": self.device.runtime,
            "threads": self.device.threads,
        }  # fmt: skip
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path.with_suffix(".lock")):
                self._take_in(self.path)
                if self.calibration is None or self.cache is None:
                    return
                with self._lock:
                    points = {signature: dict(own) for signature, own in self._points.items()}
                stored = Stored(self.block, self.calibration, self.cache, points)
                replace_table(self.path, stored.to_json(about))

    def _take_in(self, path: Path) -> bool:
        """Merge a table file into this table; return whether it could be read."""
        from .stored import read_table

        stored = read_table(path)
        if stored is None:
            return False
        self.block = stored.block
        self._hold(stored.calibration, stored.cache)
        self._learn(stored.points)
        return True


def open_table(folder: Path | None = None) -> KernelTable:
    """Open this machine's table (one thread), with what earlier sessions measured.

    ``folder``: where tables are kept, by default ``devices`` among the person's files.
    """
    if folder is None:
        from workbench.data.paths import user_folder

        folder = user_folder() / "devices"
    device = this_machine()
    key = hashlib.sha256(f"{cpu_identity()}|{device.runtime}|1".encode()).hexdigest()[:12]
    table = KernelTable(device, folder / f"kernels-{key}.json")
    if not table._take_in(folder / f"kernels-{key}.json"):
        table.block = find_block()
    return table


def find_block() -> int:
    """Return the channels of a block of ONNX Runtime's NCHWc layout here, 0 where it has none.

    Found by letting it lay out one small convolution.
    """
    import numpy as np
    import onnx
    import onnxruntime as ort
    from onnx import helper, numpy_helper

    from .sheet import make_model

    weight = numpy_helper.from_array(np.ones((4, 1, 1, 1), np.float32), "w")
    model = make_model([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": (1, 1, 4, 4)}, ["y"], [weight])
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(Path(folder) / "laid_out.onnx")
        options.log_severity_level = 4
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    laid = {tensor.name: tensor.dims[0] for tensor in graph.initializer}
    sizes = [laid[node.input[1]] for node in graph.node if node.domain.endswith("nchwc") and node.op_type == "Conv"]
    return int(sizes[0]) if sizes else 0


def _parades(kernels: Sequence[Kernel]) -> Iterable[list[Kernel]]:
    """Cut into groups of one dtype, type, image size and batch, for a graph each, given kernels first."""
    groups: dict[Any, list[Kernel]] = {}
    for kernel in kernels:
        layout = kernel.layout if kernel.type in ("Conv", "DepthwiseConv") else ""
        key = (kernel.dtype, kernel.type, layout, kernel.image, kernel.batch, "Add" in kernel.fused)
        groups.setdefault(key, []).append(kernel)
    for group in groups.values():
        parade: list[Kernel] = []
        for kernel in group:
            full = sum(map(weight_bytes, [*parade, kernel])) > _PARADE_BYTES
            if parade and (full or len(parade) == _PARADE):
                yield parade
                parade = []
            parade.append(kernel)
        yield parade


def _entry(timed: Any, block: int) -> tuple[str, Point]:
    if timed.kernel is not None:
        return place(timed.kernel, block)
    words = [timed.type, timed.dtype]
    if timed.type in ("GlobalAveragePool", "MaxPool", "AveragePool"):
        words.append("last" if timed.dtype == "int8" else "blocked" if timed.blocked else "plain")
    return " ".join(words), timed.node.elements
