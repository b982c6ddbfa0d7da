"""Prefix reuse: where two settings share their first layers, those run once.

A *cut* is a value that everything after it depends on and nothing before it bypasses, such as a residual
block's output. When only layers behind a cut have changed, the activations at the cut are the same as
before: they are kept for the first images, up to a bound of memory, and only the rest of the network
runs again. It helps a person who works on one layer, and sweeps over layers; a global slider changes the
first layer too, and gains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .runner import OnnxRunner

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

#: Bytes of activations kept, at most.
KEPT_BYTES = 256 * 2**20
#: Share of the multiply-accumulates that must lie before a cut for it to be worth keeping.
LEAST_SHARE = 0.25

#: Nodes that make no numbers in float of those; ONNX's own number of float.
_TO_NO_FLOAT = frozenset({
    "ArgMax", "ArgMin", "Shape", "Size", "NonZero", "SplitToSequence", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual", "IsNaN", "IsInf",
})  # fmt: skip
_FLOAT = 1

Activations = NDArray[np.float32]


@dataclass(frozen=True)
class Cut:
    """A value that separates the graph; ``before`` names the initializers that it depends on."""

    value: str
    before: frozenset[str]


def find_cuts(graph: GraphProto, tensors: frozenset[str]) -> tuple[Cut, ...]:
    """Return the cuts of ``graph`` in order, at values in float; ``tensors`` are its exchangeable initializers."""
    constants = {tensor.name for tensor in graph.initializer} | tensors
    constants |= {node.output[0] for node in graph.node if node.op_type == "Constant"}
    last_use = {name: index for index, node in enumerate(graph.node) for name in node.input}
    live = {entry.name for entry in graph.input} - constants
    others = _in_no_float(graph)
    used: set[str] = set()
    cuts = []
    for index, node in enumerate(graph.node[:-1]):
        used |= tensors & set(node.input)
        live |= set(node.output) - constants
        live = {name for name in live if last_use.get(name, -1) > index}
        if len(live) == 1 and used and not live & others:
            cuts.append(Cut(next(iter(live)), frozenset(used)))
    return tuple(cuts)


def _in_no_float(graph: GraphProto) -> set[str]:
    """Return the values that are places, counts, answers of yes and no, or lists, and what is made of them."""
    found: set[str] = set()
    for node in graph.node:
        if node.op_type in _TO_NO_FLOAT or (node.op_type == "Cast" and node.attribute[0].i != _FLOAT):
            found.update(node.output)
        elif node.op_type == "TopK":
            found.update(node.output[1:])
        elif node.op_type not in ("Cast", "SequenceAt") and set(node.input[node.op_type == "Where" :][:1]) & found:
            found.update(node.output)
    return found


def split_at(model: ModelProto, cut: Cut) -> tuple[ModelProto, ModelProto]:
    """Return the model up to ``cut`` and the model from there on."""
    place = next(index for index, node in enumerate(model.graph.node) if cut.value in node.output) + 1
    constants = [node for node in model.graph.node[:place] if node.op_type == "Constant"]
    first, rest = list(model.graph.node[:place]), [*constants, *model.graph.node[place:]]
    return _part(model, first, outputs=cut.value), _part(model, rest, inputs=cut.value)


class Prefix:
    """The activations at a cut under one setting of the layers before it, for the first images."""

    def __init__(self, key: tuple[object, ...], cut: Cut) -> None:
        self.key, self.cut = key, cut
        self._kept: dict[int, Activations] = {}
        self._bytes = 0

    def get(self, first: int) -> Activations | None:
        """Return what was kept of the batch that begins at image ``first``."""
        return self._kept.get(first)

    def keep(self, first: int, values: Activations) -> None:
        """Keep a batch's activations while there is room."""
        if first not in self._kept and self._bytes + values.nbytes <= KEPT_BYTES:
            self._kept[first] = values
            self._bytes += values.nbytes


class PrefixRunner:
    """Runs the layers behind a cut on kept activations, and the whole network where none are kept."""

    runtime = OnnxRunner.runtime

    def __init__(self, model: ModelProto, prefix: Prefix) -> None:
        head, tail = split_at(model, prefix.cut)
        self._prefix = prefix
        self._head, self._tail = OnnxRunner(head), OnnxRunner(tail)

    def logits(self, images: Tensor, first: int | None = None) -> NDArray[np.float32]:
        """Return the logits of a batch; ``first`` tells which batch it is."""
        kept = None if first is None else self._prefix.get(first)
        if kept is None or len(kept) != len(images):
            kept = self._head.logits(images)
            if first is not None:
                self._prefix.keep(first, kept)
        return self._tail.run(kept)[0]

    def stop(self) -> None:
        """Give up the batch that is running, and every later one."""
        self._head.stop()
        self._tail.stop()


def deepest_shared(
    cuts: tuple[Cut, ...], ours: Mapping[str, str], theirs: Mapping[str, str], work: Mapping[str, int]
) -> Cut | None:
    """Return the last cut before which all versions agree, if enough of the ``work`` lies there."""
    total = sum(work.values())
    for cut in reversed(cuts):
        if all(ours.get(name) == theirs.get(name) for name in cut.before):
            share = sum(work.get(name, 0) for name in cut.before) / total if total else 0.0
            return cut if share >= LEAST_SHARE else None
    return None


def _part(
    model: ModelProto, nodes: list[NodeProto], *, inputs: str | None = None, outputs: str | None = None
) -> ModelProto:
    import onnx

    used = {name for node in nodes for name in node.input}
    part = onnx.ModelProto(ir_version=model.ir_version)
    part.opset_import.extend(model.opset_import)
    part.graph.name = model.graph.name
    part.graph.node.extend(nodes)
    part.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name in used)
    if inputs is None:
        part.graph.input.extend(model.graph.input)
    else:
        part.graph.input.append(onnx.helper.make_tensor_value_info(inputs, onnx.TensorProto.FLOAT, None))
    if outputs is None:
        part.graph.output.extend(model.graph.output)
    else:
        part.graph.output.append(onnx.helper.make_tensor_value_info(outputs, onnx.TensorProto.FLOAT, None))
    return part
