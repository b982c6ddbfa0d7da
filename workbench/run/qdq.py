"""An int8 graph of a trained model: ONNX Runtime's own quantizer, with the settings that run fast.

ONNX Runtime fuses ``DequantizeLinear → Conv → QuantizeLinear`` into ``QLinearConv`` (and likewise
``QGemm``, ``QLinearAdd``, ``QLinearGlobalAveragePool``), but on x86 only for *unsigned* activations:
signed ones are rewritten to unsigned only where a tensor has one consumer, so that a residual network
with signed activations is left half in float and runs slower than fp32. Weights are signed, symmetric
and per output channel, in all of their 8 bits: the file is the same wherever it is written.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    import onnx

_BATCH = 32


class QuantizationError(WorkbenchError):
    """The graph could not be turned into an int8 graph."""


@dataclass(frozen=True)
class ValueGrid:
    """Unsigned 8-bit codes of an activation: ``(code - zero_point) * scale``."""

    scale: float
    zero_point: int


@dataclass(frozen=True, eq=False)
class WeightGrid:
    """Signed 8-bit codes of a weight around zero, with a scale for each slice along ``axis``, or one for all."""

    scales: np.ndarray[Any, np.dtype[np.float32]]
    axis: int | None


def export_int8(
    model: onnx.ModelProto,
    calibration: np.ndarray,
    *,
    grids: Mapping[str, ValueGrid] | None = None,
    weights: Mapping[str, WeightGrid] | None = None,
) -> onnx.ModelProto:
    """Return ``model`` with 8-bit weights and activations, as a QDQ graph that runs on int8 kernels.

    ``calibration``: float32 images ``(n, C, H, W)``, normalised as the model expects; the least and greatest
    value they give a tensor become the grid of the activation. BatchNorm is folded first. Weights are written as
    raw bytes.

    Values in ``grids`` and weights in ``weights`` (by tensor name) are put on the grid given, the others on
    calibrated ones.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    if calibration.ndim < 2 or len(calibration) == 0:
        raise QuantizationError(f"int8 export needs calibration images of shape (n, C, H, W), got {calibration.shape}.")
    if not np.isfinite(calibration).all():
        raise QuantizationError("The calibration images hold NaN or infinite values; remove them first.")
    options: dict[str, Any] = {"ActivationSymmetric": False, "WeightSymmetric": True}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        folded = _pool_from_mean(fold(model))
        options["TensorQuantOverrides"] = _overrides(folded, grids or {}, weights or {})
        add_pre_process_metadata(folded)  # it is folded; the quantizer would warn that it may not be
        try:
            quantize_static(
                folded, str(path), _Reader(folded, calibration), quant_format=QuantFormat.QDQ,
                per_channel=True, op_types_to_quantize=_quantized_kinds(), nodes_to_exclude=_left_in_float(folded),
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax, extra_options=options,
            )  # fmt: skip
        except Exception as error:
            raise QuantizationError(f"ONNX Runtime could not quantize this graph to int8: {error}") from error
        return _with_raw_data(_load(path))


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with BatchNorm folded into convolutions and constants, by ONNX Runtime itself."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "folded.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return _load(path)


def _quantized_kinds() -> list[str]:
    """Return the operators that get integer inputs: all but those whose kernels compute in float anyway."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QDQRegistry, *QLinearOpsRegistry} - {"LayerNormalization", "InstanceNormalization"})


def _left_in_float(model: onnx.ModelProto) -> list[str]:
    """Return the nodes that the quantizer is to leave alone.

    It cannot round the bias of a grouped transposed convolution: a scale of the weight belongs to an output of every
    group. Its weights keep the values they have, in float32. What becomes an index is no number to round either.
    """
    groups = {
        node.name: entry.i
        for node in model.graph.node
        for entry in node.attribute
        if node.op_type == "ConvTranspose" and len(node.input) == 3 and entry.name == "group"
    }
    return [*(name for name, count in groups.items() if count > 1), *_making_indices(model)]


def _making_indices(model: onnx.ModelProto) -> list[str]:
    """Return the nodes whose values are only used as the integers that they are cast to."""
    from onnx import TensorProto

    readers: dict[str, list[str]] = defaultdict(list)
    outputs = {entry.name for entry in model.graph.output}
    found: set[str] = set()
    for node in reversed(model.graph.node):  # whoever reads a value comes later
        casts = node.op_type == "Cast" and node.attribute[0].i in (TensorProto.INT32, TensorProto.INT64)
        read = [name for output in node.output for name in readers[output]]
        if node.name and (casts or (read and found.issuperset(read) and outputs.isdisjoint(node.output))):
            found.add(node.name)
        for name in node.input:
            readers[name].append(node.name)
    return sorted(found)


def _overrides(
    model: onnx.ModelProto, grids: Mapping[str, ValueGrid], weights: Mapping[str, WeightGrid]
) -> dict[str, list[dict[str, Any]]]:
    """Return the grids as ONNX Runtime's quantizer takes them, of tensors that the folded graph has."""
    from onnxruntime.quantization import QuantType

    initializers = {tensor.name for tensor in model.graph.initializer}
    values = {name for node in model.graph.node for name in (*node.input, *node.output)} - initializers
    found: dict[str, list[dict[str, Any]]] = {}
    for name, grid in grids.items():
        if name in values:
            scale, zero_point = np.array(grid.scale, np.float32), np.array(grid.zero_point, np.uint8)
            found[name] = [{"quant_type": QuantType.QUInt8, "scale": scale, "zero_point": zero_point}]
    for name, weight in weights.items():
        if name in initializers:
            along = {} if weight.axis is None else {"axis": weight.axis}
            found[name] = [
                {"quant_type": QuantType.QInt8, "scale": scale, "zero_point": np.int8(0), **along}
                for scale in weight.scales.astype(np.float32)
            ]
    return found


class _Reader:
    """Feeds calibration images to ONNX Runtime's calibrator, a batch at a time."""

    def __init__(self, model: onnx.ModelProto, images: np.ndarray) -> None:
        constants = {tensor.name for tensor in model.graph.initializer}
        inputs = [entry for entry in model.graph.input if entry.name not in constants]
        if len(inputs) != 1:
            raise QuantizationError(f"int8 export handles models with one input; this one has {len(inputs)}.")
        batch = inputs[0].type.tensor_type.shape.dim[0].dim_value or _BATCH
        whole = len(images) - len(images) % batch if len(images) >= batch else 0
        if whole == 0 and inputs[0].type.tensor_type.shape.dim[0].dim_value:
            raise QuantizationError(f"The graph takes batches of {batch}; give at least {batch} images.")
        self._name = inputs[0].name
        images = images[: whole or None] if inputs[0].type.tensor_type.shape.dim[0].dim_value else images
        self._batches: Iterator[np.ndarray] = (
            np.ascontiguousarray(images[i : i + batch], dtype=np.float32) for i in range(0, len(images), batch)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next feed, None after the last."""
        images = next(self._batches, None)
        return None if images is None else {self._name: images}

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return iter(self.get_next, None)

    def set_range(self, start_index: int, end_index: int) -> None:
        """Part of ONNX Runtime's interface; batches are already small."""


def _pool_from_mean(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace means over height and width by GlobalAveragePool, which has an int8 kernel."""
    from onnx import helper, numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for index, node in enumerate(model.graph.node):
        if node.op_type != "ReduceMean":
            continue
        values = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        axes = values.get("axes")
        if axes is None and len(node.input) > 1 and node.input[1] in constants:
            axes = numpy_helper.to_array(constants[node.input[1]]).tolist()
        if sorted(axes or ()) in ([2, 3], [-2, -1]) and values.get("keepdims", 1) == 1:
            pool = helper.make_node("GlobalAveragePool", node.input[:1], node.output, name=node.name)
            model.graph.node.remove(node)
            model.graph.node.insert(index, pool)
    return model


def _with_raw_data(model: onnx.ModelProto) -> onnx.ModelProto:
    """Rewrite initializers kept as lists of numbers (five times the bytes) as raw bytes."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if not tensor.HasField("raw_data") and tensor.dims:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    return model


def _load(path: Path) -> onnx.ModelProto:
    import onnx

    return onnx.load(str(path))
