"""A model's ONNX graph, exported once, into which each recipe's tensors are put.

The graph is exported with every tensor as an initializer under its own name in the state dict, and
BatchNorm left unfolded, so that a new setting only exchanges initializers (their shapes too, where
channels were removed); the runtime folds and fuses when it loads. ``OnnxGraph.build`` serializes.
"""

from __future__ import annotations

import copy
import io
import logging
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.symbolic import tracing

from .blame import blamed_in
from .onnx_factors import Chain, chain_nodes
from .onnx_layers import count_calls, layer_inputs
from .onnx_shapes import write_shapes
from .prefix import Cut, find_cuts
from .runner import OnnxRunner

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

INPUT, OUTPUT = "input", "logits"
OPSET = 18
#: What the names of nodes that round an input begin with, before a number.
GRID = "grid"
#: Graphs with other chains that are kept: one for each set of factorized layers that was lately asked for.
KEPT_FACTORIZED = 8


#: What PyTorch's tracer warns of where ``tolist`` is called on a tensor.
_LISTED = "Converting a tensor to a Python list"


class ExportError(WorkbenchError):
    """The model has no ONNX graph that gives the same answers."""


@dataclass(frozen=True)
class InputGrid:
    """The grid on which what enters a layer is rounded (unsigned codes); ``by_batch``: each batch's own.

    With a ``centre`` there are two values, a scale above and below it.
    """

    bits: int
    scale: float
    zero_point: int
    by_batch: bool = False
    centre: float | None = None


class OnnxGraph:
    """The graph of one architecture without its tensors."""

    def __init__(
        self, skeleton: ModelProto, names: tuple[str, ...], depthwise: Mapping[str, str], calls: Mapping[str, int]
    ) -> None:
        """``depthwise`` maps the weight of a grouped convolution to the tensor whose length counts its groups."""
        self._skeleton = skeleton
        self.names = names
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
        return OnnxGraph(model, tuple(sorted(present)), counted, calls)

    @cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """The values at which the graph falls into a first and a second part."""
        return find_cuts(self._skeleton.graph, frozenset(self.names))

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
                    nodes, made[value, grid] = _round_to_grid(graph, value, grid, len(made))
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


def export_graph(module: nn.Module, image_shape: tuple[int, ...]) -> OnnxGraph:
    """Return the ONNX graph of ``module``, with any batch size.

    Raises:
        ExportError: neither of PyTorch's exporters could express the model.
    """
    twin = _with_distinct_tensors(module)
    example = torch.zeros(2, *image_shape)
    failures = []
    for export in (_export_by_tracing, _export_by_dynamo):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                model = export(twin, example)
                write_shapes(model, twin.state_dict())
                _require_any_batch(model, example)
                return _strip(model, module, count_calls(twin, example))
            except Exception as error:  # exporters raise whatever the user's code makes them raise
                told = re.sub(r"\x1b\[[\d;]*m", "", next(iter(str(error).strip().splitlines()), ""))
                failures.append(f"{type(error).__name__}: {told}")
        if any(_LISTED in str(warning.message) for warning in said):
            # the other exporter gives each number a symbol and solves for them all: most of a minute, for nothing
            failures.append("its code turns tensors into lists of numbers, which no graph can follow")
            break
    operator = blamed_in(twin, example, failures[0])
    lacks = f": it has no operator {operator}; replace it there, or export as torch or aot-inductor" if operator else ""
    raise ExportError(f"The model cannot be written as ONNX{lacks} ({'; then '.join(failures)[:300]}).")


def _require_any_batch(model: ModelProto, example: Tensor) -> None:
    """Raise where the tracer wrote the example's batch size into the graph, as it does for ``len(x)``."""
    count = len(example) + 1
    logits = OnnxRunner(model).logits(torch.zeros(count, *example.shape[1:]))
    if len(logits) != count:
        raise ExportError("the graph fixes the batch size")


def _with_distinct_tensors(module: nn.Module) -> nn.Module:
    # the exporter merges tensors of equal values, such as two fresh BatchNorms; random ones stay apart
    twin = copy.deepcopy(module).eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in [*twin.parameters(), *twin.buffers()]:
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return twin


def _export_by_tracing(module: nn.Module, example: Tensor) -> ModelProto:
    import onnx

    buffer = io.BytesIO()
    # torch asks whether its log is on without calling the question, takes that for a yes, and then prints the whole
    # graph of a model that it cannot express on stdout
    with mock.patch.object(torch._C, "_jit_is_onnx_log_enabled", None, create=True):
        torch.onnx.export(
            module,
            (example,),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        )
    return onnx.load_from_string(buffer.getvalue())


def _export_by_dynamo(module: nn.Module, example: Tensor) -> ModelProto:
    import onnx

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), tracing():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            optimize=False,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )
    assert program is not None
    model = program.model_proto
    onnx.checker.check_model(model)
    return model


def _strip(model: ModelProto, module: nn.Module, calls: Mapping[str, int]) -> OnnxGraph:
    """Take the state dict's tensors out of the graph; other constants stay in it."""
    tied = _tied_names(module)
    for node in model.graph.node:
        node.input[:] = [tied.get(name, name) for name in node.input]
    names = set(module.state_dict()) - set(tied)
    for tensor in model.graph.initializer:
        tensor.name = tied.get(tensor.name, tensor.name)
    found = [tensor for tensor in model.graph.initializer if tensor.name in names]
    others = [tensor for tensor in model.graph.initializer if tensor.name not in names]
    used = {name for node in model.graph.node for name in node.input}
    if INPUT not in used:
        raise ExportError("the traced graph does not depend on its input")
    kept = tuple(tensor.name for tensor in found if tensor.name in used)
    del model.graph.initializer[:]
    model.graph.initializer.extend(others)
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    depthwise = [
        f"{name}.weight" if name else "weight"
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and layer.groups == layer.in_channels == layer.out_channels > 1
    ]
    return OnnxGraph(model, kept, {weight: weight for weight in depthwise}, calls)


def _tied_names(module: nn.Module) -> dict[str, str]:
    """Return each further name of a tied tensor → its first one, by which the tensors of a recipe go."""
    first: dict[int, str] = {}
    named = module.state_dict(keep_vars=True).items()
    return {name: known for name, tensor in named if (known := first.setdefault(id(tensor), name)) != name}


def _set_groups(node: NodeProto, groups: int) -> None:
    """A depthwise convolution has as many groups as channels; removing channels removes groups."""
    for attribute in node.attribute:
        if attribute.name == "group":
            attribute.i = groups


def _round_to_grid(graph: GraphProto, value: str, grid: InputGrid, number: int) -> tuple[list[NodeProto], str]:
    """Return the nodes of ``(clamp(round(x / scale), low, high)) * scale`` and the name of their result."""
    from onnx import helper, numpy_helper

    prefix = f"{GRID}{number}"
    if grid.by_batch:
        return _round_to_own_range(graph, value, grid.bits, prefix)
    if grid.centre is not None:
        return _round_to_two_values(graph, value, grid.centre, grid.scale, prefix)
    low, high = -grid.zero_point, 2**grid.bits - 1 - grid.zero_point
    for name, number_ in (("scale", grid.scale), ("low", low), ("high", high)):
        graph.initializer.append(numpy_helper.from_array(np.asarray(number_, np.float32), f"{prefix}.{name}"))
    steps = [f"{prefix}.{name}" for name in ("divided", "rounded", "clipped", "value")]
    nodes = [
        helper.make_node("Div", [value, f"{prefix}.scale"], [steps[0]], steps[0]),
        helper.make_node("Round", [steps[0]], [steps[1]], steps[1]),
        helper.make_node("Clip", [steps[1], f"{prefix}.low", f"{prefix}.high"], [steps[2]], steps[2]),
        helper.make_node("Mul", [steps[2], f"{prefix}.scale"], [steps[3]], steps[3]),
    ]
    return nodes, steps[3]


def _round_to_two_values(
    graph: GraphProto, value: str, centre: float, scale: float, prefix: str
) -> tuple[list[NodeProto], str]:
    """Return the nodes that give ``value`` one of two values, as ``InputQuantizer`` does."""
    from onnx import helper, numpy_helper

    for name, number in (("centre", centre), ("upper", centre + scale), ("lower", centre - scale)):
        graph.initializer.append(numpy_helper.from_array(np.asarray(number, np.float32), f"{prefix}.{name}"))
    above, result = f"{prefix}.above", f"{prefix}.value"
    nodes = [
        helper.make_node("Greater", [value, f"{prefix}.centre"], [above], above),
        helper.make_node("Where", [above, f"{prefix}.upper", f"{prefix}.lower"], [result], result),
    ]
    return nodes, result


def _round_to_own_range(graph: GraphProto, value: str, bits: int, prefix: str) -> tuple[list[NodeProto], str]:
    """Return the nodes that round ``value`` to the grid of its own range, as ``InputQuantizer`` does."""
    from onnx import helper, numpy_helper

    constants = {"zero": 0.0, "top": float(2**bits - 1), "tiny": float(np.finfo(np.float32).eps)}
    for name, number in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(number, np.float32), f"{prefix}.{name}"))

    def node(kind: str, inputs: str, output: str) -> NodeProto:
        names = [value if name == "value" else f"{prefix}.{name}" for name in inputs.split()]
        attributes: dict[str, Any] = {"keepdims": 0} if kind.startswith("Reduce") else {}
        return helper.make_node(kind, names, [f"{prefix}.{output}"], f"{prefix}.{output}", **attributes)

    nodes = [
        node("ReduceMin", "value", "least"),
        node("ReduceMax", "value", "most"),
        node("Min", "least zero", "low"),
        node("Max", "most zero", "high"),
        node("Sub", "high low", "span"),
        node("Div", "span top", "step"),
        node("Max", "step tiny", "scale"),
        node("Div", "low scale", "below"),
        node("Round", "below", "first"),
        node("Add", "first top", "last"),
        node("Div", "value scale", "divided"),
        node("Round", "divided", "rounded"),
        node("Max", "rounded first", "raised"),
        node("Min", "raised last", "clipped"),
        node("Mul", "clipped scale", "rounded_value"),
    ]
    return nodes, f"{prefix}.rounded_value"
