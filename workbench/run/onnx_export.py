"""A model's module written as an ONNX graph, by whichever of PyTorch's exporters can express it."""

from __future__ import annotations

import copy
import io
import logging
import re
import threading
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING
from unittest import mock

import torch
from torch import Tensor, nn

from workbench.symbolic import tracing

from .blame import blamed_in
from .onnx_graph import INPUT, OUTPUT, ExportError, OnnxGraph
from .onnx_layers import count_calls
from .onnx_shapes import write_shapes
from .runner import OnnxRunner
from .ways import takes_other_ways

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
#: PyTorch's exporter keeps what it is doing in global variables.
_one_at_a_time = threading.Lock()
#: What PyTorch's tracer warns of where code asks for a value or a size.
_READ = "Converting a tensor to a Python"
#: And where ``tolist`` is called on a tensor.
_LISTED = "Converting a tensor to a Python list"


class _OtherWaysError(ExportError):
    """The graph is of one of the ways that the code takes."""


def export_graph(module: nn.Module, image_shape: tuple[int, ...]) -> OnnxGraph:
    """Return the ONNX graph of ``module``, with any batch size.

    Raises:
        ExportError: neither of PyTorch's exporters could express the model.
    """
    with _one_at_a_time:
        return _export(module, image_shape)


def _export(module: nn.Module, image_shape: tuple[int, ...]) -> OnnxGraph:
    twin = _with_distinct_tensors(module)
    example = torch.zeros(2, *image_shape)
    failures = []
    for export in (_export_by_tracing, _export_by_dynamo):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                model = export(twin, example)
                if any(_READ in str(warning.message) for warning in said) and takes_other_ways(twin, example, module):
                    raise _OtherWaysError("its code takes another way for other values")
                write_shapes(model, twin.state_dict())
                _require_any_batch(model, example)
                return _strip(model, module, count_calls(twin, example), export is _export_by_tracing)
            except Exception as error:  # exporters raise whatever the user's code makes them raise
                told = re.sub(r"\x1b\[[\d;]*m", "", next(iter(str(error).strip().splitlines()), ""))
                failures.append(f"{type(error).__name__}: {told}".removeprefix(f"{_OtherWaysError.__name__}: "))
                if isinstance(error, _OtherWaysError):
                    break  # which the other exporter does not follow either, and prints pages about
        if any(_LISTED in str(warning.message) for warning in said):
            # the other exporter gives each number a symbol and solves for them all: most of a minute, for nothing
            failures.append("its code turns tensors into lists of numbers, which no graph can follow")
            break
    operator = blamed_in(twin, example, failures[0])
    lacks = f": it has no operator {operator}; replace it there, or export as torch or aot-inductor" if operator else ""
    raise ExportError(f"The model cannot be written as ONNX{lacks} ({'; then '.join(failures)[:300]}).")


def _require_any_batch(model: ModelProto, example: Tensor) -> None:
    """Raise where the tracer wrote the example's batch size into the graph, as it does for ``len(x)``."""
    count = len(example) + 1
    logits = OnnxRunner(model).logits(torch.zeros(count, *example.shape[1:]))
    if len(logits) != count:
        raise ExportError("the graph fixes the batch size")


def _with_distinct_tensors(module: nn.Module) -> nn.Module:
    # the exporter merges tensors of equal values, such as two fresh BatchNorms; random ones stay apart
    twin = copy.deepcopy(module).eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in twin.state_dict(keep_vars=True).values():  # other buffers are constants of the graph
        if tensor.is_floating_point():
            tensor.data = torch.rand(tensor.shape, generator=generator) + 0.5
    return twin


def _export_by_tracing(module: nn.Module, example: Tensor) -> ModelProto:
    import onnx

    buffer = io.BytesIO()
    # torch asks whether its log is on without calling the question, takes that for a yes, and then prints the whole
    # graph of a model that it cannot express on stdout
    with mock.patch.object(torch._C, "_jit_is_onnx_log_enabled", None, create=True):
        torch.onnx.export(
            module,
            (example,),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        )
    return onnx.load_from_string(buffer.getvalue())


def _export_by_dynamo(module: nn.Module, example: Tensor) -> ModelProto:
    import onnx

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), tracing():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            opset_version=OPSET,
            optimize=False,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
        )
    assert program is not None
    model = program.model_proto
    onnx.checker.check_model(model)
    return model


def _strip(model: ModelProto, module: nn.Module, calls: Mapping[str, int], traced: bool) -> OnnxGraph:
    """Take the state dict's tensors out of the graph; other constants stay in it."""
    tied = _tied_names(module)
    for node in model.graph.node:
        node.input[:] = [tied.get(name, name) for name in node.input]
    names = set(module.state_dict()) - set(tied)
    for tensor in model.graph.initializer:
        tensor.name = tied.get(tensor.name, tensor.name)
    found = [tensor for tensor in model.graph.initializer if tensor.name in names]
    others = [tensor for tensor in model.graph.initializer if tensor.name not in names]
    used = {name for node in model.graph.node for name in node.input}
    if INPUT not in used:
        raise ExportError("the traced graph does not depend on its input")
    kept = tuple(tensor.name for tensor in found if tensor.name in used)
    del model.graph.initializer[:]
    model.graph.initializer.extend(others)
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    depthwise = [
        f"{name}.weight" if name else "weight"
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        and layer.groups == layer.in_channels == layer.out_channels > 1
    ]
    return OnnxGraph(model, kept, {weight: weight for weight in depthwise}, calls, traced)


def _tied_names(module: nn.Module) -> dict[str, str]:
    """Return each further name of a tied tensor → its first one, by which the tensors of a recipe go."""
    first: dict[int, str] = {}
    named = module.state_dict(keep_vars=True).items()
    return {name: known for name, tensor in named if (known := first.setdefault(id(tensor), name)) != name}
