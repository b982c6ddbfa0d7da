"""The walk over an ONNX graph that folds its constants and builds a ``torch.fx`` graph of the rest.

Each ONNX value is either a constant (a numpy array) or an ``fx.Node``. Beside every node goes a
tensor on torch's ``meta`` device, which has its shape and no data; the images' batch dimension is
``BATCH`` there, a prime that no real dimension is a multiple of. So ``Shape`` is a constant like any
other, the arithmetic that exporters do on it folds away, and a multiple of ``BATCH`` in a target shape
stands for that multiple of whatever batch size comes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, fx, nn

from ..model import ModelError, listed
from .names import Names
from .op import Array, CannotImport, Op, UnknownOperator, Value

BATCH = 1_000_003

#: Operators whose result depends on a shape among their inputs, which may hold ``BATCH``.
_SHAPED = ("Expand", "ConstantOfShape", "Reshape", "Tile")
#: Operators through which a constant keeps the name of the weight it comes from.
_TRANSPARENT = ("Identity", "Transpose", "DequantizeLinear", "Cast", "Reshape", "Squeeze", "Unsqueeze")


Rule = Callable[["Builder", Op], "Value | tuple[Value, ...]"]


def build(model: ModelProto, path: Path, shape: tuple[int, ...], image: onnx.ValueInfoProto) -> fx.GraphModule:
    """Return the module of ``model`` for images of ``shape``; raises ``ModelError`` where it cannot."""
    from .rules import RULES

    unknown = _unknown(model, RULES)
    if unknown:
        quantized = any("Quantize" in name or name.startswith("QLinear") for name in unknown)
        hint = "export it without them"
        if quantized:
            hint = "it is quantized already, so give the float model, or one of which the weights alone are quantized"
        raise UnknownOperator(f"{path} uses operators the workbench does not read ({listed(unknown, 8)}): {hint}.")
    return Builder(model, shape, image, RULES, path).run()


class Builder:
    """The state of one import: values so far, the fx graph, and the modules it calls."""

    def __init__(
        self,
        model: ModelProto,
        shape: tuple[int, ...],
        image: onnx.ValueInfoProto,
        rules: dict[str, Rule],
        path: Path,
    ) -> None:
        self.model, self.rules, self.path = model, rules, path
        self.opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
        self.root, self.constants, self.graph, self.names = nn.Module(), nn.Module(), fx.Graph(), Names()
        self.meta: dict[fx.Node, Any] = {}
        self.values: dict[str, Value] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self.source = {name: name for name in self.values}
        self.fused: dict[str, str] = {}
        self.shared: dict[Any, str] = {}
        self.image = self.graph.placeholder("images")
        self.batch = self.graph.call_method("size", (self.image, 0))
        self.meta[self.image] = torch.empty(BATCH, *shape, device="meta")
        self.meta[self.batch] = BATCH
        self.values[image.name] = self.image
        #: What the file fixes the batch to; None where it leaves it open.
        dims = image.type.tensor_type.shape.dim
        self.fixed_batch: int | None = (dims[0].dim_value or None) if dims else None

    def run(self) -> fx.GraphModule:
        """Walk the graph once and return the module."""
        nodes = list(self.model.graph.node)
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        for node in nodes:
            self._convert(node)
        result = self.values[self.model.graph.output[0].name]
        self.graph.output(self.node(result))
        module = fx.GraphModule(self.root, self.graph, class_name=self._class_name())
        module.graph.eliminate_dead_code()
        module.delete_all_unused_submodules()
        module.recompile()
        return module.eval()

    # What rules use ---------------------------------------------------------------------------------

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        """Add a call of a function; constants among ``args`` become buffers or plain numbers."""
        lifted = tuple(self._lift(arg) for arg in args)
        node = self.graph.call_function(function, lifted, kwargs)
        self.meta[node] = function(*_on_meta(lifted, self.meta), **_on_meta(kwargs, self.meta))
        return node

    def module(self, op: Op, module: nn.Module, *inputs: Value, weights: tuple[int, ...] = ()) -> fx.Node:
        """Add a call of a new module, named after the inputs of ``op`` at the indices ``weights``."""
        named = [self.source.get(op.proto.input[index], "") for index in weights if index < len(op.proto.input)]
        return self.call_module(self.install(self.names.claim(op.proto, named), module), *inputs)

    def call_module(self, target: str, *inputs: Value) -> fx.Node:
        """Add a call of the module installed as ``target``."""
        module = self.root.get_submodule(target)
        nodes = tuple(self.node(value) for value in inputs)
        node = self.graph.call_module(target, nodes)
        state = {name: value.to("meta") for name, value in module.state_dict().items()}
        self.meta[node] = torch.func.functional_call(module, state, _on_meta(nodes, self.meta))
        return node

    def install(self, name: str, module: nn.Module) -> str:
        """Put ``module`` into the tree under its dotted name, with folders as needed."""
        *folders, leaf = name.split(".")
        parent = self.root
        for folder in folders:
            if folder not in parent._modules:
                parent.add_module(folder, nn.Module())
            parent = parent.get_submodule(folder)
        parent.add_module(leaf, module.eval().requires_grad_(False))
        return name

    def node(self, value: Value) -> fx.Node:
        """Return ``value`` as a node; a constant becomes a buffer of the module."""
        if isinstance(value, fx.Node):
            return value
        if self.constants not in self.root.children():
            self.root.add_module("constants", self.constants)
        name = f"constant_{len(self.constants._buffers)}"
        tensor = to_tensor(value)
        self.constants.register_buffer(name, tensor)
        node = self.graph.get_attr(f"constants.{name}")
        self.meta[node] = tensor.to("meta")
        return node

    def shape(self, value: Value) -> tuple[int, ...]:
        """Return the shape of a value; multiples of ``BATCH`` stand for the batch."""
        return tuple(self.meta[value].shape if isinstance(value, fx.Node) else value.shape)

    def dim(self, size: int) -> int | fx.Node:
        """Return a size for use at run time: a multiple of ``BATCH`` becomes one of the batch."""
        if size == 0 or size % BATCH:
            return size
        return self.batch if size == BATCH else self.call(_multiply, self.batch, size // BATCH)

    def sole_consumer(self, name: str) -> NodeProto | None:
        """Return the only node that reads the value ``name``, if there is just one."""
        outputs = {value.name for value in self.model.graph.output}
        readers = self.consumers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in outputs else None

    # The walk ---------------------------------------------------------------------------------------

    def _convert(self, node: NodeProto) -> None:
        if node.output[0] in self.fused:
            self.values[node.output[0]] = self.values[self.fused[node.output[0]]]
            return
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        inputs = [self.values[name] if name else None for name in node.input]
        op = Op(node, inputs, attributes, self.opset)
        try:
            result = self._fold(op) if self._is_constant(op) else self.rules[_title(node)](self, op)
        except CannotImport as error:
            raise ModelError(f"{self._where(node)} {error}: {_ADVICE}.") from error
        except ModelError:
            raise
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:160]
            raise ModelError(f"{self._where(node)} does not fit its inputs ({reason}): {_ADVICE}.") from error
        results = result if isinstance(result, tuple) else (result,)
        self.values.update(zip(node.output, results, strict=False))
        if node.op_type in _TRANSPARENT and node.input[0] in self.source:
            self.source[node.output[0]] = self.source[node.input[0]]

    def _is_constant(self, op: Op) -> bool:
        if any(isinstance(value, fx.Node) for value in op.inputs):
            return False
        return op.proto.op_type not in _SHAPED or not any(_holds_batch(value) for value in op.inputs)

    def _fold(self, op: Op) -> tuple[Value, ...]:
        """Compute a node whose inputs are all constants, with the ONNX reference implementation."""
        pairs = zip(op.proto.input, op.inputs, strict=True)
        present = {name: value for name, value in pairs if isinstance(value, np.ndarray)}
        graph = helper.make_graph(
            [op.proto],
            "fold",
            [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), None)
             for name, value in present.items()],
            [onnx.ValueInfoProto(name=name) for name in op.proto.output if name],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=self.model.opset_import)
        results = ReferenceEvaluator(model).run(None, present)
        return tuple(np.asarray(result) for result in results)

    def _lift(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.item() if value.ndim == 0 else self.node(value)
        if isinstance(value, list | tuple):
            return type(value)(self._lift(entry) for entry in value)
        return value

    def _where(self, node: NodeProto) -> str:
        name = node.name or node.output[0]
        return f"{self.path}: the {node.op_type} '{name}'"

    def _class_name(self) -> str:
        name = "".join(letter for letter in self.path.stem.title() if letter.isalnum())
        return name if name.isidentifier() else "Imported"


_ADVICE = "export the model anew in a recent opset, with a dynamic batch"


def to_tensor(value: Array) -> Tensor:
    """Return a constant as a tensor of its own, half and double as float32."""
    tensor = torch.tensor(value)
    return tensor.float() if tensor.is_floating_point() else tensor


def _unknown(model: ModelProto, rules: dict[str, Rule]) -> list[str]:
    """Return the operators that have no rule where they work on images; constants fold by themselves."""
    constants = {tensor.name for tensor in model.graph.initializer} | {""}
    unknown = set()
    for node in model.graph.node:
        title = _title(node)
        folds = title in ("Shape", "Size") or ("." not in title and constants.issuperset(node.input))
        if folds:
            constants.update(node.output)
        elif title not in rules:
            unknown.add(title)
    return sorted(unknown)


def _holds_batch(value: Value | None) -> bool:
    """Return whether a constant shape counts images."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "i":
        return False
    return bool(((value % BATCH == 0) & (value != 0)).any())


def _multiply(size: int, times: int) -> int:
    return size * times


def _on_meta(value: Any, meta: dict[fx.Node, Any]) -> Any:
    return fx.map_arg(value, lambda node: meta[node])


def _title(node: NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
