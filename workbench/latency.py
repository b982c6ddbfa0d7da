"""Latency of a compressed model: the file a runtime would load, how fast it should be, how fast it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from workbench.compression import CompressedModel
from workbench.data.dataset import Dataset, Normalization
from workbench.errors import WorkbenchError
from workbench.graphs import Graphs
from workbench.measure.estimate import Latency
from workbench.models.edits import Slice
from workbench.run.onnx_file import onnx_file
from workbench.run.onnx_graph import OnnxGraph
from workbench.subject import Subject
from workbench.techniques.draft import Context

if TYPE_CHECKING:
    from onnx import ModelProto

    from workbench.measure.latency import Graph, Kernel, KernelTable

#: Calibration images for the ranges inside an int8 file.
INT8_IMAGES = 128


class LatencyEstimator:
    """Predicts and measures the latency of one subject's compressed models on this machine.

    Predictions need kernels measured once on this machine; ``learn`` measures those that are missing.
    """

    def __init__(self, subject: Subject, graphs: Graphs, data: Dataset, normalization: Normalization) -> None:
        self._subject = subject
        self._graphs = graphs
        self._data = data
        self._normalization = normalization
        self._table: KernelTable | None = None
        self._plain: Graph | None = None
        self._anchor: Latency | None = None
        self._sizes: dict[Hashable, int] = {}
        self._planned: dict[Hashable, tuple[Kernel, ...]] = {}
        self._predicted: dict[Hashable, Latency] = {}

    def runtime_bytes(self, compressed: CompressedModel) -> int | None:
        """Return the size of the ONNX file a runtime would load; None where the model doesn't export.

        For int8 activations it is the size of the weight-only file, which differs by a few scales.
        """
        graph = self._graphs.of(compressed)
        if graph is None:
            return None
        # raw bytes: the file's size depends on shapes and types, not on values
        shapes = tuple(_shapes(graph, compressed).items())
        codes = tuple((name, item.bits, item.axis, item.group) for name, item in compressed.codes.items())
        key = (shapes, codes, tuple(compressed.casts.items()))
        size = self._sizes.get(key)
        if size is None:
            size = self._sizes[key] = int(self._weight_file(graph, compressed).ByteSize())
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
        from workbench.run.qdq import export_int8

        if "calibration" not in self._data.splits:
            raise WorkbenchError("An int8 file needs calibration data, and this dataset has none.")
        seen = Context(self._data["calibration"]).mixed_images(INT8_IMAGES)
        images = self._normalization(seen).numpy()
        return export_int8(graph.build(compressed.tensors), images)

    def predict(self, compressed: CompressedModel) -> Latency | None:
        """Return the predicted latency at batch 1, with the reason; None where the model doesn't export.

        While kernels are still to be measured here (``unknown``), the interval is wide.
        """
        if not self._predictable or self._graphs.of(compressed) is None:
            return None
        from workbench.measure.latency import predict_latency

        table = self._open()
        before, after = self._kernels(None), self._kernels(compressed)
        anchor = (before, self._anchor) if self._anchor else None

        def predict(kernels: tuple[Kernel, ...]) -> Latency:
            key = (kernels, table.version, self._anchor)
            found = self._predicted.get(key)
            if found is None:
                found = self._predicted[key] = predict_latency(kernels, table, anchor=anchor)
            return found

        return self._explained(before, after, predict(before), predict(after), compressed)

    def measure(self, compressed: CompressedModel) -> Latency:
        """Return the measured latency of the exported model at batch 1, one thread, on this machine.

        The baseline is measured beside it: the reason compares the two, and later predictions are
        scaled by what was predicted and measured for the baseline.
        """
        from workbench.measure.latency import measure_latency

        measured = measure_latency(self.file(compressed), self._subject.image_shape)
        self._anchor = measured
        if not compressed.recipe:
            return measured
        self._anchor = measure_latency(self._baseline_file(), self._subject.image_shape)
        if not self._predictable:
            return measured
        before, after = self._kernels(None), self._kernels(compressed)
        return self._explained(before, after, self._anchor, measured, compressed)

    def time_shares(self, compressed: CompressedModel) -> dict[str, float]:
        """Return weight name → share of the predicted time, for weights with a kernel of their own."""
        if not self._predictable:
            return {}
        from workbench.measure.latency import kernel_times

        times = kernel_times(self._kernels(compressed), self._open())
        total = sum(entry.ns for entry in times)
        links = {
            f"{edit.layer}.{place}.weight": f"{edit.layer}.weight"
            for edit in compressed.factors.values()
            for place in range(len(edit.ranks) + 1)
        }
        shares: dict[str, float] = {}
        for entry in times:
            if entry.kernel.weight and total:
                weight = links.get(entry.kernel.weight, entry.kernel.weight)
                shares[weight] = shares.get(weight, 0.0) + entry.ns / total
        return shares

    @cached_property
    def _predictable(self) -> bool:
        """Whether the kernels that ONNX Runtime would run for this model are known."""
        if self._graphs.plain is None:
            return False
        try:
            self._all_kernels()
        except WorkbenchError:
            return False
        return True

    @property
    def unknown(self) -> int:
        """How many kernels of this subject are still to be measured on this machine."""
        return len(self._open().wanted(self._all_kernels())) if self._predictable else 0

    def learn(self, cancelled: Callable[[], bool], seconds: float = 20) -> None:
        """Measure unknown kernels for at most so many seconds; what was measured is kept on disk."""
        if self._predictable:
            self._open().grow(self._all_kernels(), seconds=seconds, cancelled=cancelled)

    def _all_kernels(self) -> tuple[Kernel, ...]:
        """The baseline's kernels in fp32 and in int8; other channel counts are derived from them."""
        from workbench.measure.latency import fused_kernels

        plain, table = self._kernels(None), self._open()
        assert self._plain is not None
        return (*plain, *fused_kernels(self._plain, self._subject.image_shape, int8=True, block=table.block))

    def _kernels(self, compressed: CompressedModel | None) -> tuple[Kernel, ...]:
        from workbench.measure.latency import fused_kernels, read_graph, resize

        table = self._open()
        if self._plain is None:
            self._plain = read_graph(self._baseline_file())
        graph, int8 = self._plain, False
        shapes: dict[str, tuple[int, ...]] = {}
        own: OnnxGraph | None = None
        if compressed is not None:
            own = self._own_graph(compressed)
            shapes = self._resized(compressed) if own is None else _shapes(own, compressed)
            int8 = runs_int8(compressed)
        factors = () if compressed is None else tuple(compressed.chains)
        key = (int8, tuple(shapes.items()), factors)
        found = self._planned.get(key)  # other threads may clear it at any moment
        if found is None:
            if len(self._planned) > 256:
                self._planned.clear()
                self._predicted.clear()
                self._sizes.clear()
            if compressed is not None and own is not None:
                graph = read_graph(own.build(compressed.tensors))
            elif shapes:
                graph = resize(graph, shapes)
            found = self._planned[key] = fused_kernels(graph, self._subject.image_shape, int8=int8, block=table.block)
        return found

    def _own_graph(self, compressed: CompressedModel) -> OnnxGraph | None:
        """Return the graph of a model whose nodes are others than the dense one's, None where they are the same."""
        if compressed.factors or self._graphs.exports(compressed):
            return self._graphs.of(compressed)
        return None

    def _resized(self, compressed: CompressedModel) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the tensors that have lost channels."""
        assert self._graphs.plain is not None
        if not any(isinstance(edit, Slice) for edit in compressed.edits):
            return {}
        original = self._subject.tensors
        present = _shapes(self._graphs.plain, compressed)
        return {name: shape for name, shape in present.items() if shape != tuple(original[name].shape)}

    def _baseline_file(self) -> ModelProto:
        assert self._graphs.plain is not None
        return self._graphs.plain.build(self._subject.model.module.state_dict())

    def _weight_file(self, graph: OnnxGraph, compressed: CompressedModel) -> ModelProto:
        integers = {
            name: (codes.codes, codes.scale, codes.zero_point, codes.axis, codes.bits, codes.group)
            for name, codes in compressed.codes.items()
        }
        halves = frozenset(name for name, dtype in compressed.casts.items() if dtype == torch.float16)
        return onnx_file(graph, compressed.tensors, integers, halves)

    def _explained(
        self,
        before: tuple[Kernel, ...],
        after: tuple[Kernel, ...],
        baseline: Latency,
        present: Latency,
        compressed: CompressedModel,
    ) -> Latency:
        from workbench.measure.latency import explain

        layers = compressed.layers
        weights = sum(layer.params for layer in layers)
        zeros = sum(layer.sparsity * layer.params for layer in layers)
        reason = explain(
            before,
            after,
            baseline,
            present,
            table=self._open(),
            sparsity=zeros / weights if weights and compressed.thresholds else 0.0,
            bits=min((layer.bits for layer in layers if layer.bits < 32), default=None),
            activation_bits=min((grid.bits for grid in compressed.grids.values()), default=None),
        )
        return dataclasses.replace(present, reason=reason)

    def _open(self) -> KernelTable:
        if self._table is None:
            from workbench.measure.latency import open_table

            self._table = open_table()
        return self._table


def _shapes(graph: OnnxGraph, compressed: CompressedModel) -> dict[str, tuple[int, ...]]:
    return {name: tuple(compressed.tensors[name].shape) for name in graph.names}


def runs_int8(compressed: CompressedModel) -> bool:
    """Whether the exported model runs on int8 kernels: 8-bit inputs and integer weights in every layer."""
    grids = compressed.grids
    return bool(grids) and all(
        layer.bits <= 8 and layer.name in grids and grids[layer.name].bits == 8 and not grids[layer.name].by_batch
        for layer in compressed.layers
        if layer.macs
    )
