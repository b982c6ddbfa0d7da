"""Inputs rounded to a grid within a float graph: 8 bits and fewer are simulated so, as ``InputQuantizer`` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

#: What the names of nodes that round an input begin with, before a number.
GRID = "grid"


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


def round_to_grid(graph: GraphProto, value: str, grid: InputGrid, number: int) -> tuple[list[NodeProto], str]:
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
