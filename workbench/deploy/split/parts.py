"""Where a model can be cut, and its two halves."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from workbench.run.onnx_grids import GRID
from workbench.run.prefix import Cut, find_cuts, split_at

from .wire import SplitError

if TYPE_CHECKING:
    from onnx import ModelProto

#: The cuts before the first layer and after the last.
ALL_ON_SERVER, ALL_ON_DEVICE = "input", "logits"
#: What rounds a layer's input is named so, values and constants.
_ROUNDS = re.compile(rf"{GRID}\d+\.")


@dataclass(frozen=True)
class Part:
    """A cut by name, and the ONNX models before and behind it; None where nothing is left to run."""

    name: str
    head: ModelProto | None
    tail: ModelProto | None


def parts_of(model: ModelProto) -> list[Part]:
    """Return the ways to cut ``model`` in two, from all on the server to all on the device.

    Cuts behind which the same layers run are one: the one that sends least, which is the last of them
    (a pooling behind the activation); none is amid the rounding of a layer's input. Between, the halves are models
    of one input and one output.
    """
    weights = frozenset(tensor.name for tensor in model.graph.initializer)
    image, answer = model.graph.input[0].name, model.graph.output[0].name
    inner: dict[frozenset[str], Cut] = {}
    for cut in find_cuts(model.graph, weights):
        layers = frozenset(name for name in cut.before if not _ROUNDS.match(name))
        if layers and cut.value not in (image, answer) and not _ROUNDS.match(cut.value):
            inner[layers] = cut
    found = [Part(ALL_ON_SERVER, None, model)]
    for cut in inner.values():
        head, tail = split_at(model, cut)
        found.append(Part(cut.value.strip("/").removesuffix("_output_0"), head, tail))
    return [*found, Part(ALL_ON_DEVICE, model, None)]


def find_part(parts: list[Part], name: str) -> Part:
    """Return the part called ``name``; raises ``SplitError`` naming those there are."""
    for part in parts:
        if part.name == name:
            return part
    raise SplitError(f"The model cannot be cut at '{name}'; it can at {', '.join(part.name for part in parts)}.")
