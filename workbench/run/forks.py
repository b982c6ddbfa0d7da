"""Many variants of one network that each differ in a few tensors, run without repeating what they share.

A sensitivity sweep compresses one layer at a time. Everything before that layer is as it was, and so is
everything that hangs on other branches: the *trunk*, the dense network, runs once for a batch of images
and hands out the values that variants take up. From there each variant is in two parts. Its *head* is
the nodes that read a changed tensor, and what lies between them: the heads of all variants of a layer
are one graph, a *fan*, that reads the trunk's values once. Its *tail*, the rest down to the logits, is
dense again: one session serves all variants, so that a sweep over L layers and V levels needs L fans
and L tails, and no session for each of the L × V settings.

A node belongs to a variant when it reads a changed tensor, is not a node of the dense graph at all
(rounding inserted before a layer), or reads a value of such a node. This holds for whatever cuts the
graph anywhere: values that leave a residual block on two ways are simply two values handed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .runner import session_options

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: Operators whose results are worth handing over in memory; what follows one up to the next is its own.
HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "Attention"})

Values = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Branch:
    """The nodes of one variant that are not the trunk's: the ``head``, then the ``tail``, in order."""

    head: tuple[NodeProto, ...]
    tail: tuple[NodeProto, ...]
    changed: Mapping[str, Any]

    @property
    def inputs(self) -> frozenset[str]:
        """Every name that its nodes read and none of them makes."""
        made = {name for node in (*self.head, *self.tail) for name in node.output}
        return frozenset(name for node in (*self.head, *self.tail) for name in node.input if name not in made)


class Part:
    """A piece of a graph, ready to run; any thread may call it, and each call keeps one core busy.

    ``nbytes`` is the size of what was loaded; the runtime needs about twice as much.
    """

    def __init__(self, model: ModelProto) -> None:
        import onnxruntime as ort

        self.inputs = tuple(entry.name for entry in model.graph.input)
        self.outputs = tuple(entry.name for entry in model.graph.output)
        content = model.SerializeToString()
        self.nbytes = len(content)
        self._session = ort.InferenceSession(content, session_options(1), ["CPUExecutionProvider"])

    def run(self, values: Values) -> dict[str, NDArray[Any]]:
        """Return the outputs by name; ``values`` may hold more than the inputs."""
        found = self._session.run(None, {name: values[name] for name in self.inputs})
        return dict(zip(self.outputs, found, strict=True))


class Fork:
    """All variants of one layer: run on the trunk's values, it yields the logits of each."""

    def __init__(self, fan: Part, tails: Sequence[Part | None], output: str) -> None:
        self._fan, self._tails, self._output = fan, tails, output

    @property
    def nbytes(self) -> int:
        """Bytes of what was loaded; tails that other forks use too are counted again."""
        return self._fan.nbytes + sum(tail.nbytes for tail in {*self._tails} if tail is not None)

    def run(self, values: Values) -> Iterator[NDArray[np.float32]]:
        """Yield each variant's logits for a batch, from the trunk's ``values`` and the images."""
        heads = self._fan.run(values)
        for number, tail in enumerate(self._tails):
            mark = _mark(number)
            own = {name.removesuffix(mark): heads[name] for name in self._fan.outputs if name.endswith(mark)}
            yield own[self._output] if tail is None else tail.run({**values, **own})[self._output]


class Forks:
    """The trunk and the forks of one dense model.

    ``dense`` is the whole model. A variant is given as a model of which only the changed initializers
    need be there.
    """

    def __init__(self, dense: ModelProto) -> None:
        import onnx

        self._dense = dense
        self._initializers = {tensor.name: tensor for tensor in dense.graph.initializer}
        self._nodes = {node.SerializeToString(): node for node in dense.graph.node}
        self.input, self.output = dense.graph.input[0].name, dense.graph.output[0].name
        self._constant = self._find_constants()
        inferred = onnx.shape_inference.infer_shapes(dense).graph.value_info
        self._types = {entry.name: entry.type.tensor_type.elem_type for entry in inferred}
        self._tails: dict[tuple[bytes, ...], Part] = {}

    def branch(self, variant: ModelProto, changed: Iterable[str]) -> Branch:
        """Return what of ``variant`` is its own; ``changed`` names the initializers that differ."""
        differ = set(changed)
        own: list[tuple[NodeProto, bool]] = []
        values: set[str] = set()
        for node in variant.graph.node:
            touched = not differ.isdisjoint(node.input) or node.SerializeToString() not in self._nodes
            if touched or not values.isdisjoint(node.input):
                own.append((node, touched))
                values.update(node.output)
        head = _head(own, values)
        initializers = {tensor.name: tensor for tensor in variant.graph.initializer}
        return Branch(
            tuple(node for (node, _), inside in zip(own, head, strict=True) if inside),
            tuple(node for (node, _), inside in zip(own, head, strict=True) if not inside),
            {name: found for name, found in initializers.items() if name in differ or name not in self._initializers},
        )

    def frontier(self, branch: Branch) -> tuple[str, ...]:
        """Return the values that a branch takes from the trunk, the images left out."""
        known = {self.input, *branch.changed}
        return tuple(sorted(name for name in branch.inputs if self._is_value(name) and name not in known))

    def trunk(self, values: Iterable[str]) -> Part:
        """Return the dense network up to ``values``."""
        wanted = sorted(set(values))
        needed, nodes = set(wanted), []
        for node in reversed(self._dense.graph.node):
            if not needed.isdisjoint(node.output):
                nodes.append(node)
                needed.update(node.input)
        return self._part(nodes[::-1], [self.input], wanted, {})

    def fork(self, branches: Sequence[Branch]) -> Fork:
        """Return the variants ``branches`` of one layer, ready to run."""
        nodes, outputs = [], []
        initializers: dict[str, Any] = {}
        for number, branch in enumerate(branches):
            mark, own = _mark(number), {name for node in branch.head for name in node.output} | set(branch.changed)
            for node in branch.head:
                nodes.append(_renamed(node, own, mark))
            for name, tensor in branch.changed.items():
                initializers[name + mark] = _named(tensor, name + mark)
            outputs += [name + mark for name in self._handed_over(branch)]
        made = {name for node in nodes for name in node.output}
        read = {name for node in nodes for name in node.input}
        inputs = sorted(name for name in read - made if name not in initializers and self._is_value(name))
        fan = self._part(nodes, inputs, outputs, initializers)
        return Fork(fan, [self._tail(branch) for branch in branches], self.output)

    def forget(self) -> None:
        """Keep no tail for forks that are made later."""
        self._tails.clear()

    def _tail(self, branch: Branch) -> Part | None:
        if not branch.tail:
            return None
        made = {name for node in branch.tail for name in node.output}
        read = {name for node in branch.tail for name in node.input}
        # what the head makes of changed weights (an LSTM's, reordered) is a constant of the dense graph only
        handed = set(self._handed_over(branch))
        inputs = sorted(name for name in read - made if self._is_value(name) or name in handed)
        key = (*(node.SerializeToString() for node in branch.tail), *(name.encode() for name in inputs))
        if key not in self._tails:
            self._tails[key] = self._part(list(branch.tail), inputs, [self.output], {})
        return self._tails[key]

    def _handed_over(self, branch: Branch) -> list[str]:
        """Return the head's values that the tail reads, or the logits."""
        read = {name for node in branch.tail for name in node.input} | {self.output}
        return [name for node in branch.head for name in node.output if name in read]

    def _is_value(self, name: str) -> bool:
        return bool(name) and name not in self._constant

    def _find_constants(self) -> set[str]:
        """Return the names that do not depend on the images."""
        constant = set(self._initializers)
        for node in self._dense.graph.node:
            if all(name in constant or not name for name in node.input):
                constant.update(node.output)
        return constant

    def _part(
        self, nodes: list[NodeProto], inputs: Sequence[str], outputs: Sequence[str], initializers: Mapping[str, Any]
    ) -> Part:
        import onnx

        model = onnx.ModelProto(ir_version=self._dense.ir_version)
        model.opset_import.extend(self._dense.opset_import)
        model.graph.name = self._dense.graph.name
        nodes = [*self._makers(nodes, set(inputs)), *nodes]
        model.graph.node.extend(nodes)
        model.graph.initializer.extend(initializers.values())
        read = {name for node in nodes for name in node.input}
        model.graph.initializer.extend(self._initializers[name] for name in sorted(read & set(self._initializers)))
        model.graph.input.extend(self._typed(name) for name in inputs)
        model.graph.output.extend(self._typed(name) for name in outputs)
        return Part(model)

    def _makers(self, nodes: list[NodeProto], given: set[str]) -> list[NodeProto]:
        """Return the nodes that make the constants which ``nodes`` read, don't make and are not ``given``."""
        made = {name for node in nodes for name in node.output} | given
        needed = {name for node in nodes for name in node.input} - made
        makers = []
        for node in reversed(self._dense.graph.node):
            if not needed.isdisjoint(node.output) and self._constant.issuperset(node.output):
                makers.append(node)
                needed.update(node.input)
        return makers[::-1]

    def _typed(self, name: str) -> Any:
        import onnx

        plain = name.partition(_SEPARATOR)[0]
        return onnx.helper.make_tensor_value_info(name, self._types.get(plain, onnx.TensorProto.FLOAT), None)


#: Separates a value's name from the number of the variant it belongs to, within a fan.
_SEPARATOR = "\x1f"


def _mark(number: int) -> str:
    return f"{_SEPARATOR}{number}"


def _head(own: list[tuple[NodeProto, bool]], values: set[str]) -> list[bool]:
    """Return which of a variant's nodes are its head: those that changed, and all up to the last of these.

    Light nodes that follow stay with it: the runtime fuses them with the node before.
    """
    inside = [touched for _, touched in own]
    read: set[str] = set()
    for place in range(len(own) - 1, -1, -1):
        inside[place] = inside[place] or not read.isdisjoint(own[place][0].output)
        if inside[place]:
            read.update(own[place][0].input)
    made: set[str] = set()
    for place, (node, _) in enumerate(own):
        light = node.op_type not in HEAVY
        inside[place] = inside[place] or (light and all(name in made for name in node.input if name in values))
        if inside[place]:
            made.update(node.output)
    return inside


def _renamed(node: NodeProto, own: set[str], mark: str) -> NodeProto:
    import onnx

    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    copied.name = node.name and node.name + mark  # names must differ, but need not be there
    for names in (copied.input, copied.output):
        names[:] = [name + mark if name in own else name for name in names]
    return copied


def _named(tensor: Any, name: str) -> Any:
    import onnx

    copied = onnx.TensorProto()
    copied.CopyFrom(tensor)
    copied.name = name
    return copied
