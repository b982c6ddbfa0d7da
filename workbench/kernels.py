"""The kernels that ONNX Runtime runs for each compressed model of a subject, planned once for each structure."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from workbench.compressed import CompressedModel
from workbench.data.dataset import Dataset, Normalization
from workbench.errors import WorkbenchError
from workbench.graphs import Graphs
from workbench.int8 import runs_int8
from workbench.late import held
from workbench.models.edits import Slice
from workbench.run.onnx_graph import OnnxGraph
from workbench.seen import SeenKernels, rounded
from workbench.subject import Subject

if TYPE_CHECKING:
    from onnx import ModelProto

    from workbench.measure.latency import Graph, Kernel

#: Structures whose kernels are kept, and of these how many were met of late.
KEPT, RECENT = 256, 16


class PlannedKernels:
    """Plans the kernels of one subject's compressed models.

    ``block`` tells how many channels this machine's layout of convolutions has together.
    """

    def __init__(
        self, subject: Subject, graphs: Graphs, data: Dataset, normalization: Normalization, block: Callable[[], int]
    ) -> None:
        self._subject = subject
        self._graphs = graphs
        self._data = data
        self._normalization = normalization
        self._block = block
        self._planned: dict[tuple[Hashable, ...], tuple[Kernel, ...]] = {}
        self._own: WeakKeyDictionary[OnnxGraph, Graph] = WeakKeyDictionary()
        #: Reads kernels off runs, where the rules of ``measure.latency`` don't follow the graph.
        self.seen: SeenKernels | None = None

    @cached_property
    def are_known(self) -> bool:
        """Whether the kernels that ONNX Runtime would run for this model can be told at all."""
        if self._graphs.plain is None:
            return False
        try:
            self.all()
        except WorkbenchError:
            self.seen = SeenKernels(self._subject, self._graphs, self._data, self._normalization, self._block)
            return self._are_seen()
        return True

    def all(self) -> tuple[Kernel, ...]:
        """The baseline's kernels in fp32 and in int8; other channel counts are derived from them."""
        return (*self.of(None), *self.dense_int8)

    @cached_property
    def dense_int8(self) -> tuple[Kernel, ...]:
        """The baseline's kernels in int8; none where they cannot be told."""
        from workbench.measure.latency import fused_kernels

        if self.seen is not None:
            return self.seen.dense_int8
        return fused_kernels(self._plain, self._subject.image_shape, int8=True, block=self._block())

    def met(self) -> tuple[Kernel, ...]:
        """The kernels of the structures planned last: some may be of kinds that no baseline has (factors, say)."""
        block = self._block()
        planned = [kernels for (kind, *_), kernels in self._planned.copy().items() if kind == block]
        return tuple(dict.fromkeys(kernel for kernels in planned[-RECENT:] for kernel in kernels))

    def of(self, compressed: CompressedModel | None, block: int | None = None) -> tuple[Kernel, ...]:
        """Return the kernels that run for ``compressed``, or for the baseline.

        With ``block`` 0 those of a runtime without layouts of its own.
        """
        block = self._block() if block is None else block
        shapes: dict[str, tuple[int, ...]] = {}
        own: OnnxGraph | None = None
        int8 = False
        if compressed is not None:
            own = self._own_graph(compressed)
            shapes = self._resized(compressed) if own is None else shapes_in(own, compressed)
            int8 = runs_int8(compressed)
        factors = () if compressed is None else tuple(compressed.chains)
        key = (block, int8, tuple(shapes.items()), factors)
        found = self._planned.get(key)  # other threads may clear it at any moment
        if found is None:
            if len(self._planned) > KEPT:
                self._planned.clear()
            found = self._planned[key] = self._plan(compressed, own, shapes, int8, block)
        return found

    def baseline_file(self, *, int8: bool = False) -> ModelProto:
        """Return the dense model as ONNX; the one in ``int8`` is for timing. Raises ``WorkbenchError`` without one."""
        assert self._graphs.plain is not None
        model = self._graphs.plain.build(self._subject.model.module.state_dict())
        return rounded(model, self._data, self._normalization) if int8 else model

    def _plan(
        self,
        compressed: CompressedModel | None,
        own: OnnxGraph | None,
        shapes: dict[str, tuple[int, ...]],
        int8: bool,
        block: int,
    ) -> tuple[Kernel, ...]:
        from workbench.measure.latency import fused_kernels, resize

        if self.seen is not None:
            is_dense = own is None and not shapes
            return (self.seen.dense_int8 if is_dense and int8 else ()) or self.seen.of(compressed, int8)
        graph = self._plain
        if compressed is not None and own is not None:
            graph = self._resized_own(own, compressed, shapes)
        elif shapes:
            graph = resize(graph, shapes)
        return fused_kernels(graph, self._subject.image_shape, int8=int8, block=block)

    def read(self, compressed: CompressedModel) -> None:
        """Read the graph of a model whose nodes are others than the dense one's, before its kernels are asked for."""
        own = self._own_graph(compressed)
        if own is not None and self.seen is None:
            self._read(own, compressed)

    def _read(self, own: OnnxGraph, compressed: CompressedModel) -> Graph:
        from workbench.measure.latency import read_graph

        read = self._own.get(own)
        if read is None:
            read = self._own[own] = read_graph(own.build(compressed.tensors))
        return read

    def _resized_own(self, own: OnnxGraph, compressed: CompressedModel, shapes: dict[str, tuple[int, ...]]) -> Graph:
        """Return a graph of other nodes than the dense one's as ``compressed`` has it; each is read once."""
        from workbench.measure.latency import regroup, resize

        return regroup(resize(self._read(own, compressed), shapes), own.groups(compressed.tensors))

    @cached_property
    def _plain(self) -> Graph:
        from workbench.measure.latency import read_graph

        return read_graph(self.baseline_file())

    def _are_seen(self) -> bool:
        try:
            self.of(None)
        except Exception:  # the runtime may not run it either, in many ways
            return False
        return True

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
        present = shapes_in(self._graphs.plain, compressed)
        return {name: shape for name, shape in present.items() if shape != tuple(original[name].shape)}


def shapes_in(graph: OnnxGraph, compressed: CompressedModel) -> dict[str, tuple[int, ...]]:
    """Return the shape of each of the graph's tensors, as ``compressed`` has it."""
    return {name: tuple(held(compressed.tensors, name).shape) for name in graph.names}
