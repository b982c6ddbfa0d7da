"""A model's ONNX graph, exported once, into which each recipe's tensors are put.

The graph is exported with every tensor as an initializer under its own name in the state dict, and
BatchNorm left unfolded, so that a new setting only exchanges initializers (their shapes too, where
channels were removed); the runtime folds and fuses when it loads. ``OnnxGraph.build`` serializes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from workbench.errors import WorkbenchError

from .onnx_factors import Chain, chain_nodes
from .onnx_grids import InputGrid, round_to_grid
from .onnx_layers import layer_inputs
from .prefix import Cut, find_cuts

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

INPUT, OUTPUT = "input", "logits"
#: Graphs with other chains that are kept: one for each set of factorized layers that was lately asked for.
KEPT_FACTORIZED = 8


class ExportError(WorkbenchError):
    """The model has no ONNX graph that gives the same answers."""


class OnnxGraph:
    """The graph of one architecture without its tensors."""

    def __init__(
        self,
        skeleton: ModelProto,
        names: tuple[str, ...],
        depthwise: Mapping[str, str],
        calls: Mapping[str, int],
        traced: bool = True,
    ) -> None:
        """``depthwise`` maps the weight of a grouped convolution to the tensor whose length counts its groups.

        Where a graph was not ``traced``, it may hold counts of channels as numbers, and be right for no others.
        """
        self._skeleton = skeleton
        self.names = names
        self.traced = traced
        self._calls = calls
        self._counted = dict(depthwise)
        self._factorized: dict[tuple[Chain, ...], OnnxGraph] = {}
        self._inputs = layer_inputs(skeleton.graph, names, calls)
        self._depthwise = [
            (index, depthwise[node.input[1]])
            for index, node in enumerate(skeleton.graph.node)
            if node.op_type == "Conv" and node.input[1] in depthwise
        ]

    def build(
        self,
        tensors: Mapping[str, Tensor],
        grids: Mapping[str, InputGrid] | None = None,
        only: Collection[str] | None = None,
    ) -> ModelProto:
        """Return the model with ``tensors`` as its initializers.

        ``grids`` maps layer names to the grid their input is rounded to (simulated in float). ``only``
        names the initializers to put in, where the model is not to be run as it is.
        """
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._skeleton)
        for name in self.names if only is None else only:
            model.graph.initializer.append(to_proto(name, tensors[name]))
        groups = self.groups(tensors)
        for index, _ in self._depthwise:
            node = model.graph.node[index]
            _set_groups(node, groups[node.input[1]])
        if grids:
            self._insert_grids(model.graph, grids)
        return model

    def groups(self, tensors: Mapping[str, Tensor]) -> dict[str, int]:
        """Return the weight of each convolution whose groups follow from ``tensors`` → how many it has."""
        nodes = self._skeleton.graph.node
        return {nodes[index].input[1]: tensors[counted].shape[0] for index, counted in self._depthwise}

    @property
    def operators(self) -> frozenset[str]:
        """The types of its operators."""
        return frozenset(node.op_type for node in self._skeleton.graph.node)

    def values(self, layer: str) -> tuple[str, ...]:
        """Return the names of the values that enter ``layer``; empty where it was not found."""
        found = self._inputs.get(layer) or self._inputs.get(f"{layer}.0") or ()
        return tuple(dict.fromkeys(self._skeleton.graph.node[index].input[0] for index in found))

    def takes(self, grids: Collection[str]) -> bool:
        """Whether the inputs of these layers are known, so that they can be rounded."""
        known = self._inputs.keys()
        return all(layer in known or f"{layer}.0" in known for layer in grids)

    def replaces(self, chains: Collection[Chain]) -> bool:
        """Whether the nodes of these layers are known, so that chains can take their place."""
        nodes = self._skeleton.graph.node
        layers = {f"{chain.layer}.weight": chain.layer for chain in chains}
        known = all(
            {nodes[index].op_type for index in self._inputs.get(layer, ())} in ({"Conv"}, {"Gemm"}, {"MatMul"})
            for layer in layers.values()
        )
        # some exporters also ask for a weight's shape
        return known and all(
            node.op_type == "Transpose" or index in self._inputs[layers[name]]
            for index, node in enumerate(nodes)
            for name in layers.keys() & set(node.input)
        )

    def factorized(self, chains: tuple[Chain, ...]) -> OnnxGraph:
        """Return the graph with ``chains`` in the place of their layers; it is one for all ranks.

        Where it cannot replace them, the graph stays as it is and runs the dense products.
        """
        if not chains or not self.replaces(chains):
            return self
        found = self._factorized.pop(chains, None) or self._with_chains(chains)
        self._factorized[chains] = found  # the latest is last
        while len(self._factorized) > KEPT_FACTORIZED:
            self._factorized.pop(next(iter(self._factorized)), None)
        return found

    def _with_chains(self, chains: tuple[Chain, ...]) -> OnnxGraph:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self._skeleton)
        names, counted, calls = set(self.names), dict(self._counted), dict(self._calls)
        nodes: dict[int, list[NodeProto]] = {}
        renamed: dict[str, str] = {}
        for chain in chains:
            links = [f"{chain.layer}.{place}" for place in range(len(chain.links))]
            if f"{chain.layer}.bias" in names:
                renamed[f"{chain.layer}.bias"] = f"{links[-1]}.bias"
            for index in self._inputs[chain.layer]:
                node = model.graph.node[index]
                nodes[index] = chain_nodes(node, chain, [renamed.get(name, name) for name in node.input[2:]])
            counted.update(chain.groups)
            calls.update(dict.fromkeys(links, calls[chain.layer]))
            names.remove(f"{chain.layer}.weight")
            names.update(f"{link}.weight" for link in links)
        kept: list[NodeProto] = []
        gone = {f"{chain.layer}.weight" for chain in chains}
        for index, node in enumerate(model.graph.node):
            node.input[:] = [renamed.get(name, name) for name in node.input]
            if index in nodes or not gone & set(node.input):  # a MatMul's weight was turned by a node of its own
                kept.extend(nodes.get(index, [node]))
        del model.graph.node[:]
        model.graph.node.extend(kept)
        present = (names - set(renamed)) | set(renamed.values())
        return OnnxGraph(model, tuple(sorted(present)), counted, calls, self.traced)

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """The values at which the graph falls into a first and a second part."""
        return find_cuts(self._skeleton.graph, frozenset(self.names))

    @cached_property
    def transposed(self) -> frozenset[str]:
        """The initializers that a node transposes."""
        nodes = self._skeleton.graph.node
        return frozenset(name for node in nodes if node.op_type == "Transpose" for name in node.input)

    @cached_property
    def looked_up(self) -> frozenset[str]:
        """The initializers of which a node takes rows, as an Embedding does."""
        nodes = self._skeleton.graph.node
        return frozenset(node.input[0] for node in nodes if node.op_type == "Gather") & frozenset(self.names)

    def _insert_grids(self, graph: GraphProto, grids: Mapping[str, InputGrid]) -> None:
        made: dict[tuple[str, InputGrid], str] = {}
        inserted: dict[int, list[NodeProto]] = {}
        for layer, grid in grids.items():
            found = self._inputs.get(layer) or self._inputs.get(f"{layer}.0")
            if found is None:
                raise ExportError(f"The input of layer '{layer}' was not found in the ONNX graph.")
            for index in found:
                value = self._skeleton.graph.node[index].input[0]
                if (value, grid) not in made:
                    nodes, made[value, grid] = round_to_grid(graph, value, grid, len(made))
                    inserted.setdefault(index, []).extend(nodes)
                graph.node[index].input[0] = made[value, grid]
        ordered: list[NodeProto] = []
        for index, node in enumerate(graph.node):
            ordered.extend(inserted.get(index, []))
            ordered.append(node)
        del graph.node[:]
        graph.node.extend(ordered)


def to_proto(name: str, tensor: Tensor) -> Any:
    """Return a TensorProto with raw bytes (typed fields would inflate the file)."""
    import onnx

    array = np.ascontiguousarray(tensor.detach().numpy())
    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.TensorProto(name=name, data_type=kind, dims=array.shape, raw_data=array.tobytes())


def _set_groups(node: NodeProto, groups: int) -> None:
    """A depthwise convolution has as many groups as channels; removing channels removes groups."""
    for attribute in node.attribute:
        if attribute.name == "group":
            attribute.i = groups
