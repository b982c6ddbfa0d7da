"""The kernels of models that ONNX Runtime rewrites in ways of its own (attention, recurrent layers): read off runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from workbench.compressed import CompressedModel
from workbench.data.dataset import Dataset, Normalization
from workbench.errors import WorkbenchError
from workbench.graphs import Graphs
from workbench.subject import Subject

if TYPE_CHECKING:
    from onnx import ModelProto

    from workbench.measure.latency import Kernel, KernelTable

#: Images by which a graph is rounded whose kernels are asked for, and not its answers.
FEW = 2


class SeenKernels:
    """Reads the kernels of one subject's compressed models, each structure by a short run.

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

    def of(self, compressed: CompressedModel | None, int8: bool = False) -> tuple[Kernel, ...]:
        """Return the kernels of ``compressed``, or of the dense model.

        Raises ``WorkbenchError`` where there is no graph, none in int8, or none that ONNX Runtime runs.
        """
        from workbench.measure.latency import seen_kernels

        graph = self._graphs.plain if compressed is None else self._graphs.of(compressed)
        if graph is None:
            raise WorkbenchError(f"'{self._subject.model.name}' cannot be written as ONNX.")
        model = graph.build(self._subject.tensors if compressed is None else compressed.tensors)
        model = self._rounded(model) if int8 else model
        try:
            return seen_kernels(model, self._subject.image_shape, block=self._block())
        except WorkbenchError:
            raise
        except Exception as error:  # a graph that fixes channel counts fails inside the runtime in many ways
            said = str(error).splitlines()[0][:120]
            raise WorkbenchError(f"ONNX Runtime cannot run this structure ({said}).") from error

    @cached_property
    def dense_int8(self) -> tuple[Kernel, ...]:
        """The kernels of the dense model in int8; none where ONNX Runtime cannot quantize it."""
        try:
            return self.of(None, int8=True)
        except WorkbenchError:
            return ()

    def observe(self, table: KernelTable, plain: tuple[Kernel, ...]) -> None:
        """Let ``table`` learn the nodes that only these graphs have, where it does not know them."""
        assert self._graphs.plain is not None
        model = self._graphs.plain.build(self._subject.tensors)
        if table.unseen(plain):
            table.observe(model, self._subject.image_shape)
        if table.unseen(self.dense_int8):
            table.observe(self._rounded(model), self._subject.image_shape)

    def _rounded(self, model: ModelProto) -> ModelProto:
        return rounded(model, self._data, self._normalization)


def rounded(model: ModelProto, data: Dataset, normalization: Normalization) -> ModelProto:
    """Return ``model`` in int8, on grids from a few calibration images: for its kernels, not for its answers.

    Raises ``WorkbenchError`` where there are no such images, or ONNX Runtime cannot quantize it.
    """
    from workbench.run.qdq import export_int8

    if "calibration" not in data.splits:
        raise WorkbenchError("An int8 file needs calibration data, and this dataset has none.")
    return export_int8(model, normalization(data["calibration"].images[:FEW]).numpy())
