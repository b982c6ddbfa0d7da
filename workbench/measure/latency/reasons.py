"""In words: why a recipe is, or is not, faster here.

Every sentence follows from the kernels that will run, from the predicted or measured figures, or from
what the recipe did to the weights; none is said that the figures contradict.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.measure.estimate import Latency

from .kernel import ALIGNMENT, Kernel
from .predict import kernel_times
from .signature import CONVOLUTIONS, NARROW
from .table import KernelTable

#: A change of latency smaller than this is called none.
_SAME = 0.03
#: A share of the time that is worth a sentence.
_NOTABLE = 0.15


def explain(
    baseline: Sequence[Kernel],
    present: Sequence[Kernel],
    before: Latency,
    after: Latency,
    *,
    table: KernelTable | None = None,
    sparsity: float = 0.0,
    bits: float | None = None,
    activation_bits: int | None = None,
    two_of_four: int = 0,
) -> str:
    """Return one to three sentences on the latency of a recipe, empty where there is nothing to explain.

    ``baseline`` and ``present``: kernels before and after; ``before`` and ``after``: their latencies.
    ``sparsity``: share of single weights that are masked; ``bits``: of the stored weights, None if not
    quantized; ``activation_bits`` likewise; ``two_of_four``: layers that keep two of every four.
    ``table`` gives the time in each kernel, where there is one.
    """
    smaller = _macs(present) < _macs(baseline)
    int8 = any(kernel.dtype == "int8" for kernel in present)
    gain = before.ms / after.ms - 1 if after.ms else 0.0
    sentences = []
    if not smaller and not int8:
        sentences += _unchanged(sparsity, bits, activation_bits, two_of_four)
    if smaller:
        sentences += _structural(baseline, present, gain, table)
        if sparsity > 0:
            sentences.append("The masked weights add no speed: the kernels are dense.")
    if int8:
        sentences += _int8(present, gain, table)
    elif smaller and bits is not None:
        sentences += _unpacked(bits)
    return " ".join(sentences[:3])


def _unchanged(sparsity: float, bits: float | None, activation_bits: int | None, two_of_four: int) -> list[str]:
    reasons = []
    if two_of_four:
        reasons.append("2:4 sparsity gains nothing on this machine, which has no sparse instructions")
    elif sparsity > 0:
        reasons.append("kernels are dense and multiply the zeros too")
    if bits is not None:
        reasons.append(_why_not_int8(bits, activation_bits))
    if not reasons:
        return []
    return [f"No speed-up expected, because {' and '.join(reasons)}."]


def _why_not_int8(bits: float, activation_bits: int | None) -> str:
    if bits == activation_bits == 1:
        return "no runtime here has kernels that count equal bits: products of binary inputs and weights run in fp32"
    if bits < 8:
        return f"{bits:g}-bit weights are unpacked to fp32 to run"
    if activation_bits is None and bits == 8:
        return "8-bit weights run as fp32 unless activations are 8 bits too"
    if activation_bits is not None and activation_bits < 8:
        return f"there are no kernels for activations of {activation_bits} bits: they are simulated in fp32"
    return f"{bits:g}-bit weights are converted to fp32 to run"


def _unpacked(bits: float) -> list[str]:
    return [f"The {bits:g}-bit weights make it smaller, not faster: they run as fp32."]


def _structural(
    baseline: Sequence[Kernel], present: Sequence[Kernel], gain: float, table: KernelTable | None
) -> list[str]:
    share = 1 - _macs(present) / max(1, _macs(baseline))
    sentences = []
    if gain < -_SAME:
        sentences.append(f"Slower although {share * 100:.0f} % of the multiplications are gone.")
    elif gain < _SAME:
        sentences.append(f"No faster although {share * 100:.0f} % of the multiplications are gone.")
    uneven = [kernel for kernel in present if _falls_off_blocks(kernel)]
    if uneven and _time_share(uneven, present, table) > _NOTABLE and any(k.layout == "blocked" for k in baseline):
        worst = max(uneven, key=lambda kernel: kernel.macs)
        sentences.append(
            f"{_count(uneven, 'layer')} run on a slower path: {worst.inputs} input channels are no multiple "
            f"of {ALIGNMENT}. Multiples of 8 or 16 are faster."
        )
    return sentences


def _falls_off_blocks(kernel: Kernel) -> bool:
    return (
        kernel.type in CONVOLUTIONS and kernel.dtype == "fp32" and kernel.layout == "plain"
        and kernel.inputs % ALIGNMENT != 0
    )  # fmt: skip


def _int8(present: Sequence[Kernel], gain: float, table: KernelTable | None) -> list[str]:
    convolutions = [kernel for kernel in present if kernel.type == "Conv" and kernel.dtype == "int8"]
    depthwise = [kernel for kernel in present if kernel.type == "DepthwiseConv" and kernel.dtype == "int8"]
    sentences = []
    if gain < -_SAME:
        sentences.append("int8 is slower than fp32 here.")
    narrow = [kernel for kernel in convolutions if kernel.outputs < NARROW]
    uneven = [kernel for kernel in convolutions if kernel.outputs % 4 or (kernel.inputs > 4 and kernel.inputs % 4)]
    uneven += [kernel for kernel in depthwise if kernel.outputs % 8]
    for kernels, words in (
        (
            uneven,
            "have channel counts that int8 kernels run slowly: no multiple of 4 (depthwise: of 8)",
        ),
        (narrow, f"have fewer than {NARROW} output channels, which int8 kernels run slowly"),
    ):
        if kernels and _time_share(kernels, present, table) > _NOTABLE:
            sentences.append(f"{_count(kernels, 'layer')} {words}.")
    return sentences


def _odd_inputs(kernel: Kernel) -> bool:
    return kernel.inputs > ALIGNMENT and kernel.inputs % ALIGNMENT != 0


def _time_share(kernels: Sequence[Kernel], among: Sequence[Kernel], table: KernelTable | None) -> float:
    """Share of the time that ``kernels`` take; of the multiplications, where no table is at hand."""
    if table is None:
        return _macs(kernels) / max(1, _macs(among))
    chosen = set(kernels)
    times = kernel_times(among, table)
    return sum(entry.ns for entry in times if entry.kernel in chosen) / sum(entry.ns for entry in times)


def _count(kernels: Sequence[Kernel], noun: str) -> str:
    return f"{len(kernels)} of the {noun}s"


def _macs(kernels: Sequence[Kernel]) -> int:
    return sum(kernel.macs for kernel in kernels)
