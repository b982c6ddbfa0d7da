"""The size of an ONNX file that is not written: a message's bytes are those of its fields, one after the other.

A slider moves on through files that share most of their weights, or the shapes of them. What a weight takes, its nodes
and its constants, is written once to be measured; from then on only sums change.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from torch import Tensor

from workbench.late import held

from .onnx_file import IntegerWeight, onnx_file, stored_as, width
from .onnx_graph import to_proto
from .onnx_tables import Table

if TYPE_CHECKING:
    from workbench.run.onnx_graph import OnnxGraph

#: Weights whose sizes are kept, at most.
KEPT = 2**14
#: Bits of integers that no runtime transposes: where the graph does, its nodes change too, and the file is written.
NARROWEST = 2


class FileSizes:
    """How large the files of ``onnx_file`` are; may be asked from any thread."""

    def __init__(self) -> None:
        self._weights: dict[Hashable, int] = {}
        #: The graph without its weights, by how many groups its convolutions have: bytes of the file, and of the graph.
        self._bare: WeakKeyDictionary[OnnxGraph, dict[Hashable, tuple[int, int]]] = WeakKeyDictionary()

    def of(
        self,
        graph: OnnxGraph,
        tensors: Mapping[str, Tensor],
        integers: Mapping[str, IntegerWeight],
        halves: frozenset[str],
        tables: Mapping[str, Table],
    ) -> int:
        """Return the bytes of ``onnx_file`` of the same."""
        if any(width(weight.bits) == NARROWEST for name, weight in integers.items() if name in graph.transposed):
            return int(onnx_file(graph, tensors, integers, halves, tables=tables).ByteSize())
        around, inside = self._bare_bytes(graph, tensors)
        if len(self._weights) > KEPT:
            self._weights.clear()
        weights = sum(self._weight(name, tensors, integers, halves, tables) for name in graph.names)
        return around - _as_field(inside) + _as_field(inside + weights)

    def _bare_bytes(self, graph: OnnxGraph, tensors: Mapping[str, Tensor]) -> tuple[int, int]:
        known, groups = self._bare.setdefault(graph, {}), tuple(graph.groups(tensors).items())
        found = known.get(groups)
        if found is None:
            model = graph.build(tensors, only=())
            found = known[groups] = model.ByteSize(), model.graph.ByteSize()
        return found

    def _weight(
        self,
        name: str,
        tensors: Mapping[str, Tensor],
        integers: Mapping[str, IntegerWeight],
        halves: frozenset[str],
        tables: Mapping[str, Table],
    ) -> int:
        """Return the bytes of a weight's nodes and constants.

        They depend on shapes, types and how long the name is: not on values, and not on which layer it is.
        """
        kind: Hashable = name in halves
        if name in integers:
            weight = integers[name]
            kind = (width(weight.bits), weight.axis, weight.group)
        elif name in tables:
            kind = tables[name].layout
        form = held(tensors, name)
        key = (len(name.encode()), tuple(form.shape), form.dtype, kind)
        found = self._weights.get(key)  # other threads may clear it at any moment
        if found is None:
            nodes: list[Any] = []
            constants = stored_as(name, tensors, integers, halves, tables, nodes) or [to_proto(name, tensors[name])]
            found = self._weights[key] = _fields(nodes) + _fields(constants)
        return found


def _fields(messages: Iterable[Any]) -> int:
    return sum(_as_field(message.ByteSize()) for message in messages)


def _as_field(size: int) -> int:
    """Return the bytes of a message of this size in another: one for the field's number (all are below 16), its length.

    A length is written in groups of seven bits.
    """
    return 1 + max(1, -(-size.bit_length() // 7)) + size
