"""Which kernels a compressed model may need: the baseline's own, at a grid of other channel counts.

Each convolution can come back blocked, direct or plain (see kernels.py) and in int8, so each layer of
the baseline asks for all of these, at shares of its channels. A few points per signature are enough,
because between them the time is interpolated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .kernel import ALIGNMENT, Kernel, Layout
from .signature import NARROW, taken_in

_SHARES = (1.0, 0.75, 0.5, 0.25)
_UNEVEN = (0.95, 0.6, 0.3)


def variants(kernels: Iterable[Kernel], block: int) -> list[Kernel]:
    """Return the kernels to measure, the given ones first."""
    given = list(dict.fromkeys(bare(kernel) for kernel in kernels))
    found = dict.fromkeys(given)
    for kernel in given:
        found.update(dict.fromkeys(_of(kernel, block)))
    return list(found)


def bare(kernel: Kernel) -> Kernel:
    """Leave out what does not decide the time, so that equal kernels are equal."""
    return replace(kernel, name="", weight="", macs=0, bytes=0, fused=taken_in(kernel))


def _of(kernel: Kernel, block: int) -> Iterable[Kernel]:
    match kernel.type, kernel.dtype:
        case "Conv", "fp32" if kernel.groups == 1:
            return _fp32(kernel, block)
        case "Conv", "int8" if kernel.groups == 1:
            return _int8(kernel)
        case "DepthwiseConv", "fp32":
            return _fp32_depthwise(kernel, block)
        case "DepthwiseConv", "int8":
            return _int8_depthwise(kernel)
        case (("Gemm" | "MatMul"), _):
            return _grid(kernel, _even(kernel.inputs, 1), _even(kernel.outputs, 1))
        case (("MaxPool" | "AveragePool" | "GlobalAveragePool" | "Add" | "ReduceMean"), _):
            return _pools(kernel, block)
        case ("Concat", _):
            return _concats(kernel, block)
    return ()


def _fp32(kernel: Kernel, block: int) -> Iterable[Kernel]:
    outputs = _even(kernel.outputs, block or 8)
    if not block:
        yield from _grid(replace(kernel, layout="plain"), _even(kernel.inputs, 1), outputs)
        return
    direct = replace(kernel, layout="direct")
    if kernel.inputs < block:
        yield from _grid(direct, [kernel.inputs], outputs)
        if kernel.inputs <= ALIGNMENT:
            return
    few = [count for count in (4, 8, 12) if count < block and count < kernel.inputs]
    yield from _grid(direct, few, outputs)
    if kernel.inputs >= block:
        yield from _grid(replace(kernel, layout="blocked"), _even(kernel.inputs, block), outputs)
    uneven = [count for count in _odd(kernel.inputs, 1) if count > block]
    yield from _grid(replace(kernel, layout="plain"), uneven, [*_odd(kernel.outputs, 1), kernel.outputs])


def _fp32_depthwise(kernel: Kernel, block: int) -> Iterable[Kernel]:
    if block:
        yield from _same(replace(kernel, layout="blocked"), _even(kernel.inputs, block))
    yield from _same(replace(kernel, layout="plain"), _odd(kernel.inputs, 1))


def _int8(kernel: Kernel) -> Iterable[Kernel]:
    image = kernel.inputs <= ALIGNMENT  # the image's own channels are never cut
    inputs = [kernel.inputs] if image else _even(kernel.inputs, 8)
    yield from _grid(kernel, inputs, _even(kernel.outputs, NARROW))
    yield from _grid(kernel, inputs, [count for count in (4, 8, 12) if count <= kernel.outputs])
    yield from _grid(kernel, inputs if image else _odd(kernel.inputs, 5), _odd(kernel.outputs, 3))


def _int8_depthwise(kernel: Kernel) -> Iterable[Kernel]:
    sixteens = [count for count in _even(kernel.inputs, 16) if count <= kernel.inputs]
    yield from _same(kernel, sixteens)
    yield from _same(kernel, [8, *(count - 8 for count in sixteens if count > 16)])
    yield from _same(kernel, [count - left for count in (8, *sixteens) for left in (1, 4, 6)])


def _pools(kernel: Kernel, block: int) -> Iterable[Kernel]:
    layouts: tuple[Layout, ...] = ("blocked", "plain") if kernel.dtype == "fp32" else (kernel.layout,)
    for layout in layouts:
        step = block if layout == "blocked" else 1
        if step:
            yield from _same(replace(kernel, layout=layout), _even(kernel.inputs, step))


def _concats(kernel: Kernel, block: int) -> Iterable[Kernel]:
    """The channels of all inputs in proportion."""
    share = kernel.outputs / kernel.inputs
    for one in _pools(kernel, block):
        step = block if one.layout == "blocked" else 1
        yield replace(one, outputs=one.inputs + max(step, round(one.inputs * (share - 1) / step) * step))


def _grid(kernel: Kernel, inputs: Iterable[int], outputs: Iterable[int]) -> Iterable[Kernel]:
    second = list(outputs)
    return (replace(kernel, inputs=one, outputs=other) for one in inputs for other in second)


def _same(kernel: Kernel, channels: Iterable[int]) -> Iterable[Kernel]:
    groups = kernel.type == "DepthwiseConv"
    return (replace(kernel, inputs=count, outputs=count, groups=kernel.groups if groups else 1) for count in channels)


def _even(channels: int, step: int) -> list[int]:
    """Shares of ``channels`` in multiples of ``step``, the largest first."""
    counts = (max(step, round(channels * share / step) * step) for share in _SHARES)
    return list(dict.fromkeys(counts))


def _odd(channels: int, least: int) -> list[int]:
    """Shares of ``channels`` that are no multiples of anything useful."""
    counts = (max(least, int(channels * share)) | 1 for share in _UNEVEN)
    return list(dict.fromkeys(count for count in counts if count <= channels))
