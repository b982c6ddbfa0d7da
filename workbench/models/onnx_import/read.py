"""An ONNX file read and checked before anything is built from it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
import onnx.inliner
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, external_data_helper

from ..model import ModelError, listed


def read_onnx(path: Path) -> ModelProto:
    """Return the model with all its weights in memory and its local functions inlined.

    Raises ``ModelError`` for what is not ONNX, is truncated, or misses its external weights.
    """
    damaged = f"{path} is not a sound ONNX file"
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{damaged}: it is truncated, or of another kind than its name says.") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{damaged}: there is no graph in it.")
    _check_external(model, path)
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
        onnx.checker.check_model(str(path))
        return onnx.inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:  # the checker and the loader raise kinds of their own
        raise ModelError(f"{damaged}: {_first_line(error)}.") from error


def input_of(model: ModelProto, path: Path) -> onnx.ValueInfoProto:
    """Return the graph's only input; raises ``ModelError`` unless it is one of float images."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ModelError(f"{path} takes {_count(inputs, 'input')}, and the workbench gives one batch of images.")
    if len(model.graph.output) != 1:
        outputs = _count(model.graph.output, "output")
        raise ModelError(f"{path} gives {outputs}, and the workbench needs one tensor of logits.")
    kind = inputs[0].type.tensor_type.elem_type
    if kind != TensorProto.FLOAT:
        name = TensorProto.DataType.Name(kind).lower()
        raise ModelError(f"{path} takes images in {name}: export it in float32.")
    image: onnx.ValueInfoProto = inputs[0]
    return image


def image_shape_of(model: ModelProto, path: Path, given: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return one image's ``(C, H, W)`` as the file fixes it, open sizes filled in from ``given``."""
    dims = input_of(model, path).type.tensor_type.shape.dim
    fixed = tuple(dim.dim_value or None for dim in dims[1:])
    if given is None:
        if not fixed or None in fixed:
            raise ModelError(f"{path} leaves the size of its images open: give input_shape=(C, H, W).")
        return tuple(dim.dim_value for dim in dims[1:])
    agrees = len(fixed) in (0, len(given)) and all(
        want is None or want == have for want, have in zip(fixed, given, strict=False)
    )
    if not agrees:
        said = ", ".join("any" if want is None else str(want) for want in fixed)
        raise ModelError(f"{path} takes images of ({said}), not of the given input_shape {given}.")
    return given


def _check_external(model: ModelProto, path: Path) -> None:
    """Raise unless every weight kept outside of the file is where it says, beside the file."""
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        said = {entry.key: entry.value for entry in tensor.external_data}
        location = said.get("location", "")
        data = (path.parent / location).resolve()
        if not data.is_relative_to(path.parent.resolve()):
            raise ModelError(f"{path} points outside of its folder for its weights ('{location}'): not read.")
        if not data.is_file():
            raise ModelError(f"{path} keeps its weights in {location}, which is missing: put it beside it.")
        end = int(said.get("offset", 0)) + int(said.get("length", 0))
        if data.stat().st_size < end:
            raise ModelError(f"{data} is truncated: '{tensor.name}' ends beyond its last byte.")


def _count(values: Iterable[onnx.ValueInfoProto], noun: str) -> str:
    names = [value.name for value in values]
    return f"{len(names)} {noun}{'' if len(names) == 1 else 's'} ({listed(names)})"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
