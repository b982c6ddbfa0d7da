"""Where in an ONNX graph a model's layers multiply what enters them.

A layer is found by its weight, followed through the nodes that only move it (transposed, sliced into
gates or projections). Whether that finds what the module does is checked by counting: a weight that is
also used elsewhere, or under another layer's name, gives more nodes than the layer has calls.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from onnx import GraphProto

_MULTIPLY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})
_MOVE = frozenset({"Transpose", "Identity", "Slice", "Split", "Concat", "Unsqueeze", "Squeeze", "Reshape", "Gather"})
#: The tensors that multiply a layer's input: of most layers, recurrent ones and cells, and attention.
_READ_INPUT = frozenset({
    "weight", "weight_ih_l0", "weight_ih_l0_reverse", "weight_ih",
    "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight",
})  # fmt: skip


def count_calls(module: nn.Module, example: Tensor) -> Counter[str]:
    """Return how often each module is called in one forward pass, by its first name."""
    calls: Counter[str] = Counter()

    def record(name: str, *_: Any) -> None:
        calls[name] += 1

    handles = [part.register_forward_pre_hook(partial(record, name)) for name, part in module.named_modules()]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def layer_inputs(graph: GraphProto, tensors: Collection[str], calls: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Return layer → the nodes whose first input is what enters it; layers in doubt are left out.

    ``tensors`` are the initializers that belong to the model.
    """
    made = {output: node for node in graph.node for output in node.output}
    sources: dict[str, frozenset[str]] = {name: frozenset({name}) for name in tensors}

    def source(name: str) -> frozenset[str]:
        if name not in sources:
            node = made.get(name)
            moves = node is not None and node.op_type in _MOVE
            sources[name] = frozenset().union(*map(source, node.input)) if node is not None and moves else frozenset()
        return sources[name]

    found: dict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(graph.node):
        if node.op_type in _MULTIPLY and len(node.input) > 1:
            for layer in {_layer(name) for name in source(node.input[1])} - {None}:
                found[str(layer)].append(index)
    attention = {_layer(name) for name in tensors if name.endswith("_proj_weight")}
    return {
        layer: tuple(nodes)
        for layer, nodes in found.items()
        # attention multiplies once where query, key and value are one, else up to three times
        if calls.get(layer, 0) <= len(nodes) <= calls.get(layer, 0) * (3 if layer in attention else 1)
    }


def _layer(tensor: str) -> str | None:
    layer, _, own = tensor.rpartition(".")
    return layer if own in _READ_INPUT else None
