"""One ONNX node as the rules see it: attributes decoded, inputs resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from onnx import NodeProto
from torch import fx

from ..model import ModelError

#: A constant of the file (or folded from them), and anything known before an image is.
Array = NDArray[Any]
#: A constant, or what is computed from the images.
Value = Array | fx.Node


class UnknownOperator(ModelError):
    """An ONNX file uses operators that no rule is written for."""


class CannotImport(Exception):
    """A use of a known operator that torch has no equal for; the message completes a sentence."""


@dataclass
class Op:
    """One node with its attributes decoded and its inputs resolved (None where left out)."""

    proto: NodeProto
    inputs: list[Value | None]
    attributes: dict[str, Any]
    opset: int

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, text decoded, or ``default``."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def input(self, index: int) -> Value:
        """Return an input that the operator must have."""
        value = self.optional(index)
        if value is None:
            raise CannotImport(f"has no input {index}")
        return value

    def optional(self, index: int) -> Value | None:
        """Return an input, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def constant(self, index: int) -> Array | None:
        """Return an input that must be known before images are (None where it is left out)."""
        value = self.optional(index)
        if isinstance(value, fx.Node):
            raise CannotImport(f"takes '{self.proto.input[index]}' from the images")
        return value

    def setting(self, name: str, index: int, default: Any = None) -> Any:
        """Return a setting that is an attribute in older opsets and an input in newer ones."""
        if name in self.attributes:
            return self.attribute(name)
        value = self.constant(index)
        return default if value is None else value.tolist()
