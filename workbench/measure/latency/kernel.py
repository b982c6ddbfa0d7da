"""The value that everything about latency is said of: one kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .graph import Shape

Layout = Literal["blocked", "direct", "plain", "last", "seen", ""]
Dtype = Literal["fp32", "int8"]

#: The layouts in which channels lie in blocks.
BLOCKS = ("blocked", "direct")
#: The blocked layout needs channels in multiples of this many.
ALIGNMENT = 4


@dataclass(frozen=True)
class Kernel:
    """One call that ONNX Runtime makes, with all that its time depends on.

    ``type`` is the ONNX operator, or DepthwiseConv, ReorderInput, ReorderOutput; View is any reshape.
    ``layout``: blocked (NCHWc), direct (reads plain, writes blocked), plain (NCHW), last (NHWC), ""
    where it has no say; ``seen`` where the kernel was read off a run (see seen.py), whose ``inputs`` and
    ``outputs`` are elements. Else ``inputs`` and ``outputs`` are channels (features of a Gemm); ``image`` and
    ``output_image`` height and width. ``fused`` names the operators that it took in; ``bytes`` counts
    activations and weights read and written once. ``weight`` is the initializer that belongs to it, by
    which time is attributed to layers.
    """

    name: str
    type: str
    dtype: Dtype
    layout: Layout
    inputs: int
    outputs: int
    image: Shape
    output_image: Shape
    window: Shape = ()
    stride: Shape = ()
    groups: int = 1
    batch: int = 1
    fused: tuple[str, ...] = ()
    macs: int = 0
    bytes: int = 0
    weight: str = ""
