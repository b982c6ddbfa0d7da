"""What a device has to do for a network: its kernels, as far as a device that is only described knows them.

A runtime's layouts and reorderings are its own affair; what remains of a kernel is the kind of its inner
loop, its multiplications, and what it reads and writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from workbench.measure.latency.kernel import Kernel

#: The kinds of inner loops that have an efficiency of their own. 3×3 convolutions of stride 1 are often
#: computed by Winograd's algorithm; depthwise ones wait for memory; "elementwise" is all without weights.
OPS = ("conv1x1", "conv3x3", "conv", "depthwise", "grouped", "dense", "elementwise")
Array = NDArray[np.float64]
#: Those whose channels have one input each, or that multiply nothing.
_ONE_INPUT = frozenset({"depthwise", "elementwise"})


@dataclass(frozen=True)
class Task:
    """One kernel for one image: ``activations`` and ``weights`` count elements, ``count`` equal kernels.

    ``sparse``: its weights keep two of every four inputs.
    """

    op: str
    inputs: int
    outputs: int
    macs: int
    activations: int
    weights: int
    count: int = 1
    name: str = ""
    sparse: bool = False


@dataclass(frozen=True)
class Work:
    """The kernels of a network, or of a part of it, with their numbers as arrays."""

    tasks: tuple[Task, ...]

    @cached_property
    def op(self) -> NDArray[np.intp]:
        """Index into ``OPS``."""
        return np.array([OPS.index(task.op) for task in self.tasks], np.intp)

    @cached_property
    def macs(self) -> Array:
        """Multiply-accumulates."""
        return np.array([task.macs for task in self.tasks], float)

    @cached_property
    def activations(self) -> Array:
        """Elements read and written that are not weights."""
        return np.array([task.activations for task in self.tasks], float)

    @cached_property
    def weights(self) -> Array:
        """Elements of the weights."""
        return np.array([task.weights for task in self.tasks], float)

    @cached_property
    def count(self) -> Array:
        """How many such kernels there are."""
        return np.array([task.count for task in self.tasks], float)

    @cached_property
    def sparse(self) -> NDArray[np.bool_]:
        """Whether two of every four inputs are kept."""
        return np.array([task.sparse for task in self.tasks], bool)

    def padded(self, alignment: int) -> Array:
        """Return the multiply-accumulates when channels are filled up to multiples of ``alignment``.

        An image's few channels are not: every runtime has a first convolution of its own.
        """
        found = self._padded.get(alignment)
        if found is None:
            inputs = [1.0 if task.op in _ONE_INPUT else _filled(task.inputs, alignment) for task in self.tasks]
            outputs = [_filled(task.outputs, alignment) for task in self.tasks]
            found = self._padded[alignment] = self.macs * np.array(inputs) * np.array(outputs)
        return found

    @cached_property
    def _padded(self) -> dict[int, Array]:
        return {}

    def with_sparse(self, layers: Iterable[str]) -> Work:
        """Return the work with the tasks of these layers marked as 2:4 sparse."""
        names = {f"{layer}.weight" for layer in layers}
        return Work(tuple(replace(task, sparse=task.name in names) for task in self.tasks))


def work_of(kernels: Sequence[Kernel]) -> Work:
    """Return the work of ``kernels``, as :func:`workbench.measure.latency.fused_kernels` gives them.

    Views cost nothing. Kernels that only change a layout or number type are left out: each runtime has
    others, and a device's efficiency already holds what its runtime spends on them.
    """
    moves = {"View", "ReorderInput", "ReorderOutput", "Transpose", "QuantizeLinear", "DequantizeLinear"}
    return Work(tuple(_task(kernel) for kernel in kernels if kernel.type not in moves))


def _task(kernel: Kernel) -> Task:
    size = 4 if kernel.dtype == "fp32" else 1
    weights = 0
    if kernel.weight:
        taps = int(np.prod(kernel.window, dtype=int)) if kernel.window else 1
        each = 1 if kernel.type == "DepthwiseConv" else kernel.inputs // kernel.groups
        weights = each * kernel.outputs * taps
    activations = max(0, kernel.bytes // size - weights)
    return Task(
        _op(kernel), kernel.inputs, kernel.outputs, kernel.macs, activations, weights, name=kernel.weight
    )  # fmt: skip


def _op(kernel: Kernel) -> str:
    if kernel.type in ("Gemm", "MatMul"):
        return "dense"
    if kernel.type == "DepthwiseConv":
        return "depthwise"
    if kernel.type != "Conv":
        return "elementwise"
    if kernel.groups > 1:
        return "grouped"
    if set(kernel.window) == {1}:
        return "conv1x1"
    return "conv3x3" if set(kernel.window) == {3} and set(kernel.stride) <= {1} else "conv"


def _filled(channels: int, alignment: int) -> float:
    return -(-channels // alignment) * alignment / channels if channels > alignment else 1.0
