"""The int8 ONNX file of a compressed model: the one that the page shows and times, and that is exported.

It holds the recipe's own codes and grids. Integer kernels want signed weights around zero with one scale a channel,
and unsigned activations. Weights and layer inputs keep the recipe's codes wherever they have that form, BatchNorm's
factor going into the scale; what joins and leaves layers between (sums, outputs of convolutions) gets a calibrated
grid, without which nothing would be fused. The same model, recipe and images give the same bytes on any machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workbench.compressed import CompressedModel
from workbench.run.onnx_fold import fold_norms
from workbench.run.onnx_graph import OnnxGraph
from workbench.run.qdq import ValueGrid, WeightGrid, export_int8
from workbench.techniques.storage import Codes

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: Images that the grids between layers are calibrated on; those given beyond are not looked at.
IMAGES = 256
#: Values go through these unchanged, or in order: a grid after them is one before them.
_KEEP = frozenset({"Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Identity"})
_LARGEST = 127


def runs_int8(compressed: CompressedModel) -> bool:
    """Whether the exported model runs on int8 kernels: 8-bit inputs and integer weights in every layer."""
    grids = compressed.grids
    return bool(grids) and all(
        layer.bits <= 8 and layer.name in grids and grids[layer.name].bits == 8 and not grids[layer.name].by_batch
        for layer in compressed.layers
        if layer.macs
    )


def write_int8(graph: OnnxGraph, compressed: CompressedModel, images: Tensor) -> ModelProto:
    """Return ``compressed`` with 8-bit weights and activations, as a QDQ graph that runs on integer kernels.

    ``graph`` is its graph without tensors, ``images`` are normalised ``(n, C, H, W)`` and of all classes. Raises
    ``QuantizationError`` where ONNX Runtime cannot quantize the graph.
    """
    two_values = {layer: grid for layer, grid in compressed.grids.items() if grid.centre is not None}
    model = graph.build(compressed.tensors, two_values)
    grids: dict[str, ValueGrid] = {}
    for layer, grid in compressed.grids.items():
        if grid.by_batch or layer in two_values:
            continue
        widened = ValueGrid(grid.scale, grid.zero_point)
        if grid.bits < 8:  # the same range, in the steps of 8 bits
            shrink = (2**grid.bits - 1) / 255
            widened = ValueGrid(grid.scale * shrink, round(grid.zero_point / shrink))
        grids.update(dict.fromkeys(graph.values(layer), widened))
    factors = fold_norms(model)
    weights: dict[str, WeightGrid] = {}
    for name, codes in compressed.codes.items():
        scales = signed_scales(codes)
        if scales is not None and keeps_scales(graph, name, codes):
            factor = np.abs(factors.get(name, np.float32(1)))
            axis = 0 if codes.axis is None else codes.axis
            weights[name] = (
                WeightGrid(scales[:1], None) if name in graph.looked_up else WeightGrid(scales * factor, axis)
            )
    _through_moves(model, grids, weights)
    return export_int8(model, images[:IMAGES].numpy(), grids=grids, weights=weights)


def keeps_scales(graph: OnnxGraph, name: str, codes: Codes) -> bool:
    """Whether integers may have the scales that ``codes`` have: rows that are looked up go on with one for all."""
    return codes.axis is None or name not in graph.looked_up


def signed_scales(codes: Codes) -> NDArray[np.float32] | None:
    """Return the scale of each output channel where the codes, less their zero points, are 8-bit integers.

    None where they are not: groups with scales of their own, or an affine grid of 8 bits far off zero.
    """
    if codes.group is not None or codes.bits > 8:
        return None
    signed = codes.codes.float() - codes.spread(codes.zero_point)
    if signed.numel() and not (signed.min() >= -_LARGEST - 1 and signed.max() <= _LARGEST):
        return None
    channels = codes.codes.shape[0 if codes.axis is None else codes.axis]
    scales: NDArray[np.float32] = np.broadcast_to(codes.scale.numpy(), (channels,)).astype(np.float32)
    return scales


def _keeps(node: NodeProto) -> bool:
    """Whether what leaves ``node`` is what enters it: a border of values that there are already adds none."""
    borders = [entry.s for entry in node.attribute if entry.name == "mode"]
    return node.op_type in _KEEP or (node.op_type == "Pad" and borders in ([b"reflect"], [b"edge"], [b"wrap"]))


def _through_moves(model: ModelProto, grids: dict[str, ValueGrid], weights: dict[str, WeightGrid]) -> None:
    """Carry grids over nodes that only move values: of activations upwards, of weights downwards."""
    from onnx import helper

    made = {node.output[0]: node for node in model.graph.node}
    for name in list(grids):
        node = made.get(name)
        while node is not None and _keeps(node) and node.input[0] not in grids:
            grids[node.input[0]] = grids[name]
            node = made.get(node.input[0])
    for node in model.graph.node:
        weight = weights.get(node.input[0]) if node.op_type == "Transpose" else None
        if weight is not None and weight.axis is not None:
            (order,) = (helper.get_attribute_value(entry) for entry in node.attribute if entry.name == "perm")
            weights[node.output[0]] = WeightGrid(weight.scales, list(order).index(weight.axis))
