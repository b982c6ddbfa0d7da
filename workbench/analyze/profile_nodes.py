"""Whose time a runtime's node is: from the names of ONNX Runtime's fused nodes back to the model's layers.

The runtime fuses, reorders and renames. A convolution fused with what follows it is called after the output tensor
of the last node it took in, with ``_nchwc``; a fused Gemm is called ``fused /fc1/Gemm``. From such a name the nodes of
the exported graph are followed back to the one that reads a layer's weight. Nodes inside a layer that is several
nodes (attention, recurrent) are found by the module path in their name. What is left is nobody's: layouts being
reordered, activations, shapes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.models.layers import Layer

if TYPE_CHECKING:
    from onnx import ModelProto

#: Nodes that a runtime fuses into the layer before them, so that their output names the layer's kernel.
_FOLLOWED = frozenset({"Relu", "Clip", "BatchNormalization", "Add", "LeakyRelu", "Sigmoid", "HardSigmoid", "Tanh"})
_DRESS = re.compile(r"^fused |_nchwc$|_token_\d+$")


class Owners:
    """Finds the layer that a node of a profile belongs to."""

    def __init__(self, model: ModelProto, layers: Sequence[Layer]) -> None:
        self._weights = {name: layer.name for layer in layers for name in (layer.weight, *layer.weights)}
        self._names = sorted((layer.name for layer in layers), key=len, reverse=True)
        self._nodes: dict[str, Any] = {node.name: node for node in model.graph.node}
        self._producers: Mapping[str, Any] = {output: node for node in model.graph.node for output in node.output}

    def of(self, node: str) -> str | None:
        """Return the name of the layer that the profile's ``node`` runs, or None."""
        bare = _DRESS.sub("", _DRESS.sub("", node))
        found = self._nodes.get(bare) or self._producers.get(bare)
        return (self._by_weight(found) if found is not None else None) or self.around(bare)

    def reads(self, node: Any) -> str | None:
        """Return the layer whose weight a node of the exported graph reads, or None."""
        if node.op_type == "BatchNormalization":
            return None
        return next((self._weights[name] for name in node.input if name in self._weights), None)

    def _by_weight(self, node: Any) -> str | None:
        for _ in range(6):
            if (owner := self.reads(node)) is not None:
                return owner
            if node.op_type not in _FOLLOWED or not node.input or node.input[0] not in self._producers:
                return None
            node = self._producers[node.input[0]]
        return None

    def around(self, node: str) -> str | None:
        """Return the layer inside which a node of the exported graph stands, by the module path in its name."""
        path = ""
        for part in node.strip("/").split("/")[:-1]:
            path = part if not path or part.startswith(f"{path}.") else f"{path}.{part}"
        return next((name for name in self._names if path == name or path.startswith(f"{name}.")), None)
