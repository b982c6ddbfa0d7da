"""TensorRT: an ONNX file of operators that it publishes as supported, and the command that builds the engine.

The list is ``docs/operators.md`` of the onnx-tensorrt repository for TensorRT 8.4, with LayerNormalization,
which 8.6 added.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from workbench.run.onnx_fold import fold_norms
from workbench.run.runner import Runner

from .format import FormatError, Source
from .limits import place_of
from .onnx_formats import OnnxFloat

if TYPE_CHECKING:
    from onnx import ModelProto

_NAMES = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast Ceil Celu Clip
    Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace DequantizeLinear Div Dropout
    Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool
    GlobalLpPool GlobalMaxPool Greater GreaterOrEqual HardSigmoid Identity If InstanceNormalization IsNaN LRN LSTM
    LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max MaxPool Mean
    Min Mul Neg NonMaxSuppression Not Or PRelu Pad Pow QuantizeLinear RNN RandomUniform Range ReduceL1 ReduceL2
    ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
    Resize Round Scan ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus
    Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK Transpose Unsqueeze Where
    Xor
"""
SUPPORTED = frozenset(_NAMES.split())
#: Images a run that the engine is tuned for, and the most it takes.
_BEST, _MOST = 8, 64


class TensorRt(OnnxFloat):
    """For NVIDIA's GPUs; not run here."""

    name, title, suffix = "tensorrt", "TensorRT", ".tensorrt.onnx"
    summary = "ONNX file checked against TensorRT's operators, and the command that builds its engine; not run here"
    runtime, distribution = "tensorrt", "tensorrt"
    runs_here = False

    def remarks(self, source: Source) -> Iterator[str]:
        """Give the command."""
        yield f"Not run here. On a machine with TensorRT 10: {command(source, self.path(source, Path()))}"
        if source.compressed.grids:
            yield (
                "TensorRT takes only grids around zero: let it choose its own with --int8 and a calibration cache; in "
                "this file activations are rounded in float."
            )
        if _two_of_four(source):
            yield "Two of every four weights are zero: --sparsity=enable lets its sparse tensor cores use that."
        yield from chain(super().remarks(source))

    def model(self, source: Source) -> ModelProto:
        """Return the fp32 graph, BatchNorm folded; raises ``FormatError`` where TensorRT lacks an operator."""
        model = super().model(source)
        fold_norms(model)
        for node in model.graph.node:
            if node.op_type not in SUPPORTED:
                raise FormatError(
                    f"TensorRT has no operator {node.op_type}, which '{source.stem}' uses {place_of(node)}: "
                    "replace that part of the model, or export it as onnx or openvino."
                )
        return model

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Write the model and the command."""
        (path,) = super().write(source, folder)
        script = path.with_suffix(".sh")
        script.write_text(f"#!/bin/sh\n{command(source, path)}\n")
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return path, script

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Raise: it needs an NVIDIA GPU."""
        raise FormatError(f"{path.name} is for TensorRT on an NVIDIA GPU and is not run here.")


def command(source: Source, path: Path) -> str:
    """Return the ``trtexec`` line that builds and times an engine of the file."""
    shape = "x".join(map(str, source.subject.image_shape))
    sizes = " ".join(f"--{name}Shapes=input:{n}x{shape}" for name, n in (("min", 1), ("opt", _BEST), ("max", _MOST)))
    sparse = " --sparsity=enable" if _two_of_four(source) else ""
    return f"trtexec --onnx={path.name} --saveEngine={path.stem}.engine --fp16{sparse} {sizes}"


def _two_of_four(source: Source) -> bool:
    """Whether each group of four input channels of a weight holds at least two zeros, in most of the weights."""
    sparse = total = 0
    for layer in source.subject.layers:
        weight = source.compressed.tensors.get(layer.weight)
        if weight is None or weight.ndim < 2:
            continue
        total += weight.numel()
        if weight.shape[1] % 4 == 0:
            groups = weight.movedim(1, -1).reshape(-1, 4)
            sparse += weight.numel() * bool(((groups == 0).sum(1) >= 2).all())
    return sparse > total / 2
