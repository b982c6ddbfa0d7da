"""How a model's layers are joined: in order, with the links that go around some of them.

Read from the exported graph: what a layer makes is followed through everything that is no layer (activations,
normalization, reshapes) to the layers that read it. Where two or more of these streams meet (a residual sum, a
concatenation, a gate) stands a *join*. A model without an exported graph is shown as its layers in call order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe

from .profile_nodes import Owners

if TYPE_CHECKING:
    from onnx import ModelProto

    from workbench.models.layers import Layer
    from workbench.session import Session

#: What a join is called, by the operator that makes it.
JOINS = {"Add": "+", "Sum": "+", "Sub": "−", "Mul": "×", "Concat": "‖", "MatMul": "×"}
INPUT = "input"


@dataclass(frozen=True)
class Place:
    """A node of the graph: ``kind`` is ``input``, ``layer`` or ``join``; ``label`` is a layer's name or a join's sign.

    ``column`` is how many nodes lie on the longest way from the input.
    """

    label: str
    kind: str
    column: int


@dataclass(frozen=True)
class LayerGraph:
    """Places in order, and links ``(from, to)`` between their numbers; ``traced``: links are the model's own."""

    places: tuple[Place, ...]
    links: tuple[tuple[int, int], ...]
    traced: bool

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def layer_graph(session: Session) -> LayerGraph:
    """Return the graph of the session's uncompressed model."""
    import onnx

    try:
        model = onnx.load_from_string(session.onnx_file(Recipe()))
    except WorkbenchError:
        return _in_order(session.layers)
    return trace_layers(model, session.layers)


def trace_layers(model: ModelProto, layers: Iterable[Layer]) -> LayerGraph:
    """Return the graph of ``layers`` in an exported ``model``; in call order where it shows fewer than half of them."""
    layers = tuple(layers)
    owners = Owners(model, layers)
    labels, kinds = [INPUT], ["input"]
    links: list[tuple[int, int]] = []
    numbers: dict[str, int] = {}
    known = {initializer.name for initializer in model.graph.initializer}
    sources: dict[str, tuple[int, ...]] = {one.name: (0,) for one in model.graph.input if one.name not in known}

    def place(label: str, kind: str) -> int:
        labels.append(label)
        kinds.append(kind)
        return len(labels) - 1

    def link(origins: Iterable[int], to: int) -> None:
        links.extend((origin, to) for origin in origins if origin != to and (origin, to) not in links)

    for node in model.graph.node:
        given = tuple(dict.fromkeys(origin for name in node.input for origin in sources.get(name, ())))
        owner = owners.reads(node) or owners.around(node.name)
        if owner is not None:
            number = numbers.get(owner)
            if number is None:
                number = numbers[owner] = place(owner, "layer")
            link((origin for origin in given if origin < number), number)
            made: tuple[int, ...] = (number,)
        elif len(given) > 1 and node.op_type in JOINS:
            number = place(JOINS[node.op_type], "join")
            link(given, number)
            made = (number,)
        else:
            made = () if node.op_type == "Shape" else given  # sizes are no data
        sources.update(dict.fromkeys(node.output, made))
    if 2 * len(numbers) < len(layers):
        return _in_order(layers)
    return _arranged(labels, kinds, links, traced=True)


def _in_order(layers: Iterable[Layer]) -> LayerGraph:
    labels = [INPUT, *(layer.name for layer in layers)]
    kinds = ["input", *(["layer"] * (len(labels) - 1))]
    return _arranged(labels, kinds, [(number, number + 1) for number in range(len(labels) - 1)], traced=False)


def _arranged(labels: list[str], kinds: list[str], links: list[tuple[int, int]], *, traced: bool) -> LayerGraph:
    """Give each place its column; links only go to later places, so one pass in order does it."""
    columns = [0] * len(labels)
    for number in range(len(labels)):
        columns[number] = max((columns[origin] + 1 for origin, to in links if to == number), default=0)
    places = (Place(label, kind, column) for label, kind, column in zip(labels, kinds, columns, strict=True))
    return LayerGraph(tuple(places), tuple(links), traced)
