"""Latency of a compressed model: the file a runtime would load, how fast it should be, how fast it is."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from workbench import int8
from workbench.compressed import CompressedModel
from workbench.data.dataset import Dataset, Normalization
from workbench.errors import WorkbenchError
from workbench.graphs import Graphs
from workbench.int8 import runs_int8
from workbench.kernels import KEPT, PlannedKernels, shapes_in
from workbench.measure.estimate import Latency
from workbench.run.onnx_file import onnx_file, width
from workbench.run.onnx_graph import OnnxGraph
from workbench.run.onnx_size import FileSizes
from workbench.subject import Subject
from workbench.techniques.context import Context

if TYPE_CHECKING:
    from onnx import ModelProto

    from workbench.measure.devices import Energy, Target
    from workbench.measure.devices.calibrate import Forecast
    from workbench.measure.devices.reasons import Change
    from workbench.measure.devices.roofline import Dtype
    from workbench.measure.devices.work import Work
    from workbench.measure.latency import Anchor, Kernel, KernelTable


class LatencyEstimator:
    """Predicts and measures the latency of one subject's compressed models on this machine.

    Predictions need kernels measured once on this machine; ``learn`` measures those that are missing. With a
    ``target``, a device that is only described, predictions are for that; measurements are always made here.
    """

    #: The described device that predictions are for; None for this machine.
    target: Target | None = None

    def __init__(self, subject: Subject, graphs: Graphs, data: Dataset, normalization: Normalization) -> None:
        self._subject = subject
        self._graphs = graphs
        self._data = data
        self._normalization = normalization
        self._table: KernelTable | None = None
        #: What the dense model was measured at, in int8 too.
        self._anchor: Latency | None = None
        self._int8_anchor: Latency | None = None
        self._sizes: dict[Hashable, int] = {}
        self._files = FileSizes()
        self._kernels = PlannedKernels(subject, graphs, data, normalization, lambda: self._open().block)
        self._predicted: dict[Hashable, Latency] = {}

    def runtime_bytes(self, compressed: CompressedModel) -> int | None:
        """Return the size of the ONNX file a runtime would load; None where the model doesn't export.

        For int8 activations it is the size of the weight-only file, which differs by a few scales.
        """
        graph = self._graphs.of(compressed)
        if graph is None:
            return None
        # raw bytes: the file's size depends on shapes and types, not on values
        shapes = tuple(shapes_in(graph, compressed).items())
        codes = tuple((name, width(item.bits), item.axis, item.group) for name, item in compressed.codes.items())
        tables = tuple((name, table.layout) for name, table in compressed.tables.items())
        key = (shapes, codes, tables, tuple(compressed.casts.items()))
        size = self._sizes.get(key)
        if size is None:
            if len(self._sizes) > KEPT:
                self._sizes.clear()
            size = self._sizes[key] = self._files.of(
                graph, compressed.tensors, compressed.integers, compressed.halves, compressed.tables
            )
        return size

    def file(self, compressed: CompressedModel) -> ModelProto:
        """Return the ONNX model a runtime would load: real int8 kernels where inputs are quantized too.

        Raises ``WorkbenchError`` where the model doesn't export.
        """
        graph = self._graphs.of(compressed)
        if graph is None:
            raise WorkbenchError(f"'{self._subject.model.name}' cannot be written as ONNX, so it cannot be timed.")
        if not runs_int8(compressed):
            return self._weight_file(graph, compressed)
        if "calibration" not in self._data.splits:
            raise WorkbenchError("An int8 file needs calibration data, and this dataset has none.")
        seen = Context(self._data["calibration"]).mixed_images(int8.IMAGES)
        return int8.write_int8(graph, compressed, self._normalization(seen))

    def predict(self, compressed: CompressedModel) -> Latency | None:
        """Return the predicted latency at batch 1, with the reason; None where the model doesn't export or run there.

        While kernels are still to be measured here (``unknown``), the interval is wide.
        """
        if not self._kernels.are_known or self._graphs.of(compressed) is None:
            return None
        if self.target is not None:
            return self._on(self.target, compressed)
        from workbench.measure.latency import predict_latency

        table = self._open()
        try:
            before, after = self._kernels.of(None), self._kernels.of(compressed)
        except WorkbenchError:
            return None

        def predict(kernels: tuple[Kernel, ...]) -> Latency:
            anchor = self._anchor_for(before, kernels)
            key = (kernels, table.version, anchor and anchor[1])
            found = self._predicted.get(key)  # other threads may clear it at any moment
            if found is None:
                if len(self._predicted) > KEPT:
                    self._predicted.clear()
                found = self._predicted[key] = predict_latency(kernels, table, anchor=anchor)
            return found

        return self._explained(before, after, predict(before), predict(after), compressed)

    def read(self, compressed: CompressedModel) -> None:
        """Read the graph of a structure beforehand, which first predictions for it would wait for."""
        if self._graphs.are_known and self._kernels.are_known:
            self._kernels.read(compressed)

    def measure(self, compressed: CompressedModel) -> Latency:
        """Return the measured latency of the exported model at batch 1, one thread, on this machine.

        The baseline is measured beside it (for an int8 file the baseline in int8 too): the reason compares the two,
        and later predictions are scaled by what was predicted and measured for the baseline. Weights that are kept as
        integers and run as fp32 are unpacked once, when the file is loaded, as predictions take it.
        """
        from workbench.measure.latency import measure_latency

        unpacked = not runs_int8(compressed)
        measured = measure_latency(self.file(compressed), self._subject.image_shape, unpacked=unpacked)
        self._anchor = measured
        if not compressed.recipe:
            return measured
        self._anchor = measure_latency(self._kernels.baseline_file(), self._subject.image_shape)
        if runs_int8(compressed):
            with contextlib.suppress(WorkbenchError):  # as a whole the dense model may not have such a file
                self._int8_anchor = measure_latency(self._kernels.baseline_file(int8=True), self._subject.image_shape)
        if not self._kernels.are_known:
            return measured
        before, after = self._kernels.of(None), self._kernels.of(compressed)
        return self._explained(before, after, self._anchor, measured, compressed)

    def scale_by(self, baseline: Latency, int8: Latency | None = None) -> None:
        """Scale later predictions by what the baseline and its ``int8`` file were measured at, as ``measure`` does."""
        self._anchor, self._int8_anchor = baseline, int8

    def _anchor_for(self, before: tuple[Kernel, ...], kernels: tuple[Kernel, ...]) -> Anchor | None:
        """Return the measured baseline that a prediction is scaled by: of the same number type where there is one."""
        if self._int8_anchor is not None and any(kernel.dtype == "int8" for kernel in kernels):
            return self._kernels.dense_int8, self._int8_anchor
        return (before, self._anchor) if self._anchor is not None else None

    def time_shares(self, compressed: CompressedModel) -> dict[str, float]:
        """Return weight name → share of the predicted time, for weights with a kernel of their own."""
        if not self._kernels.are_known:
            return {}
        try:
            times = self._times(compressed)
        except WorkbenchError:  # of a structure that ONNX Runtime does not run
            return {}
        total = sum(times.values())
        links = {
            f"{edit.layer}.{place}.weight": f"{edit.layer}.weight"
            for edit in compressed.factors.values()
            for place in range(len(edit.ranks) + 1)
        }
        shares: dict[str, float] = {}
        for name, time in times.items():
            if name and total:
                weight = links.get(name, name)
                shares[weight] = shares.get(weight, 0.0) + time / total
        return shares

    def _times(self, compressed: CompressedModel) -> dict[str, float]:
        """Return weight → the time of its kernels, in whatever unit; "" for kernels without one."""
        if self.target is not None:
            return self.target.times(self._kernels.of(compressed, 0))
        from workbench.measure.latency import kernel_times

        times: dict[str, float] = {}
        for entry in kernel_times(self._kernels.of(compressed), self._open()):
            times[entry.kernel.weight] = times.get(entry.kernel.weight, 0.0) + entry.ns
        return times

    @property
    def unknown(self) -> int:
        """How many kernels of this subject are still to be measured on this machine."""
        if not self._kernels.are_known or self.target is not None:
            return 0
        kernels = self._kernels.all()
        table = self._open()
        # kernels that were read off a run are sized up together, by one run of the whole
        unsized = self._kernels.seen is not None and self._anchor is None
        return len(table.wanted(kernels, self._kernels.met())) + table.unseen(kernels) + unsized

    def learn(self, cancelled: Callable[[], bool], seconds: float = 20) -> None:
        """Measure unknown kernels for at most so many seconds; what was measured is kept on disk."""
        if self._kernels.are_known and self.target is None:
            if self._kernels.seen is not None:
                self._kernels.seen.observe(self._open(), self._kernels.of(None))
                self._anchor = self._anchor or self._measure_baseline()
            self._open().grow(self._kernels.all(), self._kernels.met(), seconds=seconds, cancelled=cancelled)

    def work(self, compressed: CompressedModel) -> tuple[Work, Dtype]:
        """Return what a described device would have to do for one image, and in which number type.

        Raises ``WorkbenchError`` where the model doesn't export.
        """
        return self.change(compressed).after

    def on_target(self, compressed: CompressedModel) -> tuple[Forecast, Energy | None] | None:
        """Return the time on the described device ÷ the baseline's there, and the energy; None without one."""
        if self.target is None or not self._kernels.are_known:
            return None
        change = self.change(compressed)
        return self.target.ratio(change.before, change.after), self.target.energy(self._on(self.target, compressed))

    def _sparse(self, compressed: CompressedModel) -> tuple[str, ...]:
        from workbench.measure.two_of_four import two_of_four

        if not compressed.masked:
            return ()
        named = ((layer.name, compressed.tensors.get(f"{layer.name}.weight")) for layer in compressed.layers)
        return two_of_four({name: weight for name, weight in named if weight is not None})

    def _by_pattern(self, compressed: CompressedModel) -> tuple[str, ...]:
        """Return the layers that a step has given the pattern; looking at all weights is for those steps."""
        steps = compressed.recipe.steps
        chosen = [step.settings for step in steps]
        chosen += [override.settings for step in steps for override in step.overrides]
        return self._sparse(compressed) if any(getattr(one, "granularity", "") == "n:m" for one in chosen) else ()

    def _on(self, target: Target, compressed: CompressedModel) -> Latency:
        from workbench.measure.devices.reasons import explain_on

        kernels = self._kernels.of(compressed, 0)
        latency = target.latency(kernels, self._sparse(compressed))
        change = self.change(compressed)
        if not compressed.recipe:
            return latency
        return dataclasses.replace(
            latency, reason=explain_on(target, change, target.ratio(change.before, change.after))
        )

    def change(self, compressed: CompressedModel) -> Change:
        """Return what a recipe did to the network, as described devices see it.

        Raises ``WorkbenchError`` where the model doesn't export.
        """
        if not self._kernels.are_known:
            raise WorkbenchError(f"'{self._subject.model.name}' cannot be written as ONNX, so its work isn't known.")
        from workbench.measure.devices import work_of
        from workbench.measure.devices.reasons import Change
        from workbench.measure.devices.target import dtype_of

        before, after, sparse = self._kernels.of(None, 0), self._kernels.of(compressed, 0), self._sparse(compressed)
        return Change(
            (work_of(before), dtype_of(before)),
            (work_of(after).with_sparse(sparse), dtype_of(after)),
            two_of_four=len(sparse),
            **_facts(compressed),
        )

    def _measure_baseline(self) -> Latency:
        from workbench.measure.latency import measure_latency

        file, shape = self._kernels.baseline_file(), self._subject.image_shape
        # noise only adds
        return min((measure_latency(file, shape, seconds=0.15) for _ in range(3)), key=lambda latency: latency.ms)

    def _weight_file(self, graph: OnnxGraph, compressed: CompressedModel) -> ModelProto:
        stored = compressed.tensors, compressed.integers, compressed.halves
        return onnx_file(graph, *stored, tables=compressed.tables)

    def _explained(
        self,
        before: tuple[Kernel, ...],
        after: tuple[Kernel, ...],
        baseline: Latency,
        present: Latency,
        compressed: CompressedModel,
    ) -> Latency:
        from workbench.measure.latency import explain

        reason = explain(
            before,
            after,
            baseline,
            present,
            table=self._open(),
            two_of_four=len(self._by_pattern(compressed)),
            **_facts(compressed),
        )
        return dataclasses.replace(present, reason=reason)

    def _open(self) -> KernelTable:
        if self._table is None:
            from workbench.measure.latency import open_table

            self._table = open_table()
        return self._table


def _facts(compressed: CompressedModel) -> dict[str, Any]:
    """Return what a recipe did to the weights, in the words of the reasons."""
    layers = compressed.layers
    weights = sum(layer.params for layer in layers)
    zeros = sum(layer.sparsity * layer.params for layer in layers)
    return {
        "sparsity": zeros / weights if weights and compressed.masked else 0.0,
        "bits": min((layer.bits for layer in layers if layer.bits < 32), default=None),
        "activation_bits": min((grid.bits for grid in compressed.grids.values()), default=None),
    }
