"""The ONNX nodes of a factorized layer, in the place of the layer's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import NodeProto


@dataclass(frozen=True)
class Chain:
    """The links in the place of ``layer``: the kernel axes each convolves over, and whether it is grouped."""

    layer: str
    links: tuple[tuple[tuple[int, ...], bool], ...]

    @property
    def groups(self) -> dict[str, str]:
        """The weight of each grouped link → the tensor whose length counts its groups: the weight before it."""
        places = (place for place, (_, grouped) in enumerate(self.links) if grouped)
        return {f"{self.layer}.{place}.weight": f"{self.layer}.{place - 1}.weight" for place in places}


def chain_nodes(node: NodeProto, chain: Chain, bias: list[str]) -> list[NodeProto]:
    """Return the nodes that replace ``node``.

    The tensors are named as ``models.factors`` names them. ``node`` multiplies its first input by the layer's
    weight: a Conv, a Gemm, or a MatMul of the transposed weight. ``bias`` is what the last link adds, if any.
    """
    nodes: list[NodeProto] = []
    value, end = node.input[0], node.output[0]
    for place, (axes, _) in enumerate(chain.links):
        last = place == len(chain.links) - 1
        result = end if last else f"{end}.{place}"
        inputs = [value, f"{chain.layer}.{place}.weight", *(bias if last else [])]
        nodes.extend(_link_nodes(node, axes, inputs, result))
        value = result
    return nodes


def _link_nodes(node: NodeProto, axes: tuple[int, ...], inputs: list[str], result: str) -> list[NodeProto]:
    from onnx import helper

    name = f"{result}.node"
    if node.op_type == "Conv":
        return [helper.make_node("Conv", inputs, [result], name, **_window(node, axes))]
    if node.op_type == "Gemm":
        return [helper.make_node("Gemm", inputs, [result], name, transB=1)]
    value, weight = inputs  # the bias of a MatMul is added by a later node of its own
    turned = f"{result}.weight"
    return [
        helper.make_node("Transpose", [weight], [turned], f"{turned}.node", perm=[1, 0]),
        helper.make_node("MatMul", [value, turned], [result], name),
    ]


def _window(node: NodeProto, axes: tuple[int, ...]) -> dict[str, Any]:
    """Return a Conv's attributes on ``axes``, and those of a single point on the others."""
    given = {attribute.name: attribute for attribute in node.attribute}
    kernel = list(given["kernel_shape"].ints)
    chosen: dict[str, Any] = {"kernel_shape": [size if axis in axes else 1 for axis, size in enumerate(kernel)]}
    for name in ("strides", "dilations"):
        if name in given:
            chosen[name] = [step if axis in axes else 1 for axis, step in enumerate(given[name].ints)]
    if "auto_pad" in given and given["auto_pad"].s != b"NOTSET":
        return {**chosen, "group": 1, "auto_pad": given["auto_pad"].s}  # of a single point that is none
    pads = list(given["pads"].ints) if "pads" in given else [0] * 2 * len(kernel)
    return {**chosen, "group": 1, "pads": [pad if place % len(kernel) in axes else 0 for place, pad in enumerate(pads)]}
