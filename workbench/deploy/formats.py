"""All formats, by name: the one place where they are registered."""

from __future__ import annotations

from .executorch_formats import ExecuTorch, ExecuTorchInt8
from .format import Format, FormatError
from .inductor import AotInductor
from .litert_formats import LiteRt, LiteRtInt8
from .microcontroller.c_format import CSource
from .onnx_formats import OnnxFloat
from .onnx_int8 import OnnxInt8
from .onnx_weights import OnnxHalf, OnnxInt2, OnnxInt4
from .openvino_formats import OpenVinoHalf, OpenVinoInt4, OpenVinoInt8
from .packed import Packed
from .stablehlo import StableHlo
from .tensorrt import TensorRt
from .torch_program import TorchProgram
from .tvm_formats import Tvm, TvmArm

_ALL = (
    OnnxFloat(),
    OnnxHalf(),
    OnnxInt8(),
    OnnxInt4(),
    OnnxInt2(),
    OpenVinoHalf(),
    OpenVinoInt8(),
    OpenVinoInt4(),
    ExecuTorch(),
    ExecuTorchInt8(),
    LiteRt(),
    LiteRtInt8(),
    Tvm(),
    TvmArm(),
    StableHlo(),
    TensorRt(),
    TorchProgram(),
    AotInductor(),
    CSource(),
    Packed(),
)
FORMATS: dict[str, Format] = {entry.name: entry for entry in _ALL}


def find_format(name: str) -> Format:
    """Return the format called ``name``; raises ``FormatError`` naming those there are."""
    if name not in FORMATS:
        raise FormatError(f"There is no format '{name}'; there is {', '.join(FORMATS)}.")
    return FORMATS[name]
