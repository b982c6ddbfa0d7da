"""Dotted module names for ONNX nodes, from their weights' names where those say something."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

from onnx import NodeProto
from torch import nn

#: Last parts of a parameter's name that are not part of its module's.
_PARAMETERS = ("weight", "bias", "kernel", "gamma", "beta", "in_proj_weight")
_RESERVED = set(dir(nn.Module())) | {"constants"}


class Names:
    """Hands out each dotted name once, and none that is both a module and a folder of modules."""

    def __init__(self) -> None:
        self.leaves: set[str] = set()
        self.folders: set[str] = set()

    def claim(self, node: NodeProto, weights: Iterable[str] = ()) -> str:
        """Return a free name for ``node``: its weights', its scope's, its own, or its operator's."""
        wanted = _from_weights(weights) or _from_scope(node) or _from_path(node) or node.op_type.lower()
        parts = [_valid(part) for part in wanted.split(".") if part] or [node.op_type.lower()]
        for depth in range(1, len(parts)):
            if ".".join(parts[:depth]) in self.leaves:
                parts[depth - 1] += "_"
        base = name = ".".join(parts)
        count = 0
        while name in self.leaves or name in self.folders:
            count += 1
            name = f"{base}_{count}"
        self.leaves.add(name)
        self.folders.update(name[:end] for end, letter in enumerate(name) if letter == ".")
        return name


def _from_weights(weights: Iterable[str]) -> str:
    for weight in weights:
        path, dot, last = weight.rpartition(".")
        if dot and last in _PARAMETERS:
            return path
        for parameter in _PARAMETERS:
            for separator in ("_", "/"):
                if weight.endswith(separator + parameter):
                    return weight.removesuffix(separator + parameter).replace("/", ".")
    return ""


def _from_scope(node: NodeProto) -> str:
    """Return the module path that torch's exporter records: ``['', 'stage1', 'stage1.0.relu', 'relu_2']``."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            try:
                scopes = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError):
                return ""
            return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""
    return ""


def _from_path(node: NodeProto) -> str:
    """Return ``stage1.0.conv1`` for torch's older ``/stage1/stage1.0/conv1/Conv``."""
    if "/" not in node.name:
        return ""
    parts: list[str] = []
    for part in node.name.strip("/").split("/"):
        if parts and part.startswith(parts[-1] + "."):
            parts[-1] = part
        else:
            parts.append(part)
    if len(parts) > 1 and re.fullmatch(rf"{node.op_type}(_\d+)?", parts[-1]):
        parts.pop()
    return ".".join(parts)


def _valid(part: str) -> str:
    cleaned = re.sub(r"\W", "_", part, flags=re.ASCII).strip("_") or "_"
    return f"{cleaned}_" if cleaned in _RESERVED else cleaned
