"""What makes two kernels comparable, and the two numbers by which comparable kernels differ.

Kernels of one signature run the same code on the same image size; their times are a smooth function of
two coordinates: input and output channels of a convolution (padded as the layout pads them), features
of a Gemm, elements read and written for everything else.
"""

from __future__ import annotations

import math
from functools import lru_cache

from .kernel import Kernel

#: Signature and the kernel's coordinates in it.
Place = tuple[str, tuple[int, int]]

#: Below so many output channels an 8-bit convolution runs on another, slower path.
NARROW = 16
CONVOLUTIONS = ("Conv", "DepthwiseConv")
PRODUCTS = ("Conv", "Gemm", "MatMul")


def place(kernel: Kernel, block: int) -> Place:
    """Return the kernel's signature and coordinates; ``block`` as in :func:`fused_kernels`."""
    if kernel.layout == "seen":
        return f"{kernel.type} {kernel.dtype} seen batch {kernel.batch}", (kernel.inputs, kernel.outputs)
    if kernel.type in ("Gemm", "MatMul"):
        return f"{kernel.type} {kernel.dtype} batch {kernel.batch}", (kernel.inputs, kernel.outputs)
    if kernel.type in CONVOLUTIONS:
        return _convolution(kernel, block)
    elements = kernel.batch * kernel.inputs * math.prod(kernel.image)
    written = kernel.batch * kernel.outputs * math.prod(kernel.output_image)
    window = _by(kernel.window)
    words = (kernel.type, kernel.dtype, kernel.layout if kernel.type != "Add" else "", window)
    return " ".join(word for word in words if word), (elements, written)


def taken_in(kernel: Kernel) -> tuple[str, ...]:
    """Return the fused operators that cost something: a plain ReLU hides in the arithmetic."""
    if kernel.dtype == "int8":
        return ()
    return tuple(op for op in kernel.fused if op not in ("Relu", "BatchNormalization"))


def _convolution(kernel: Kernel, block: int) -> Place:
    words = [
        kernel.type, kernel.dtype, kernel.layout, _by(kernel.window), f"stride {_by(kernel.stride) or '1x1'}",
        f"{_by(kernel.image)} to {_by(kernel.output_image)}", f"batch {kernel.batch}",
    ]  # fmt: skip
    if kernel.groups > 1:
        words.append(f"groups {kernel.groups}")
    words.extend(taken_in(kernel))
    inputs, outputs = kernel.inputs, kernel.outputs
    if kernel.dtype == "int8":
        alignment, point = _int8_alignment(kernel)
        return " ".join([*words, alignment]), point
    if kernel.layout in ("blocked", "direct"):
        outputs = _pad(outputs, block)
        inputs = _pad(inputs, block) if kernel.layout == "blocked" else inputs
    return " ".join(words), (inputs, outputs)


def _int8_alignment(kernel: Kernel) -> tuple[str, tuple[int, int]]:
    """Return how well the channels fit the 8-bit kernels, and the coordinates that matter then.

    Products work on 4 input and 16 output channels at a time. Fewer output channels than 16 take longer
    than 16 do, and where either is no multiple of 4 (an image's few channels excepted), they take up to
    twice as long. Depthwise ones work on 16 channels at a time, on 8, and then on each that remains.
    """
    if kernel.type == "DepthwiseConv":
        alignment = {0: "sixteens", 8: "eights"}.get(kernel.outputs % 16, "uneven")
        return alignment, (kernel.inputs, 1 + kernel.outputs % 8)
    uneven = kernel.outputs % 4 or (kernel.inputs % 4 and kernel.inputs > 4)
    if not uneven and kernel.outputs < NARROW:
        return "narrow", (kernel.inputs, kernel.outputs)
    return "uneven" if uneven else "even", (kernel.inputs, _pad(kernel.outputs, NARROW))


def _pad(channels: int, block: int) -> int:
    return -(-channels // block) * block


@lru_cache
def _by(sizes: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in sizes)
