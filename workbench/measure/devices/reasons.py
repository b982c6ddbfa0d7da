"""In words: why a recipe is, or is not, faster on a described device."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.counting import counted

from .calibrate import Forecast
from .roofline import Dtype, seconds
from .target import Target
from .work import Work

#: A ratio nearer to one than this is called none.
_SAME = 0.03
#: A share of the time that is worth a sentence.
_NOTABLE = 0.4


@dataclass(frozen=True)
class Change:
    """What a recipe did to a network, as a device sees it.

    ``sparsity``: share of single weights that are zero; ``two_of_four``: how many layers keep two of every
    four inputs; ``bits`` of the stored weights, ``activation_bits`` of the inputs, None where not quantized.
    """

    before: tuple[Work, Dtype]
    after: tuple[Work, Dtype]
    sparsity: float = 0.0
    two_of_four: int = 0
    bits: float | None = None
    activation_bits: int | None = None


def explain_on(target: Target, change: Change, ratio: Forecast) -> str:
    """Return one to three sentences on the latency of a recipe on ``target``, empty where nothing is to say."""
    smaller = change.after[0].macs.sum() < change.before[0].macs.sum()
    int8 = change.after[1] == "int8"
    sentences = [*_sparse(target, change)]
    if int8 and target.machine.int8_peak is None:
        sentences.append("This device has no 8-bit instructions.")
    if not int8 and change.bits is not None:
        sentences.append(_not_int8(change))
    if (smaller or int8) and ratio.ms > 1 - _SAME:
        sentences.append(_what_remains(target, change))
    elif smaller or int8:
        sentences += _misaligned(target, change)
    if (smaller or int8) and ratio.low < 1 < ratio.high:
        sentences.append("The interval of the ratio holds 1: both models measured on the device would tell.")
    return " ".join(sentences[:3])


def _sparse(target: Target, change: Change) -> list[str]:
    sparsity = target.description.sparsity
    if change.two_of_four and sparsity is None:
        return ["2:4 sparsity gains nothing here: this device has no sparse instructions."]
    if change.two_of_four and sparsity is not None:
        return [
            f"2:4 sparsity in {counted(change.two_of_four, 'layer')}: products up to {sparsity.promised:g}× faster by "
            f"the data sheet, {sparsity.practice:g}× counted, as networks see in practice."
        ]
    if change.sparsity > 0:
        return ["Masked weights gain nothing: kernels are dense and multiply the zeros too."]
    return []


def _not_int8(change: Change) -> str:
    if change.activation_bits is None:
        return f"{change.bits:g}-bit weights make it smaller, not faster: without 8-bit activations they run as floats."
    return "Not every layer has 8-bit weights and inputs, so that the products run as floats."


def _what_remains(target: Target, change: Change) -> str:
    """Say what the time goes to, where less work doesn't make it shorter."""
    work, dtype = change.after
    size = len(target.belief.mean) // 2
    u = target.belief.mean[:size] if dtype == "float" else target.belief.mean[size:]
    times, slopes = seconds(work, target.machine, dtype, u)
    overhead, memory = slopes[:, -1].sum() / times.sum(), slopes[:, -2].sum() / times.sum()
    if overhead > _NOTABLE:
        return f"No faster: {overhead:.0%} of the time is the cost of starting {counted(len(times), 'kernel')}."
    if memory > _NOTABLE:
        return f"No faster: {memory:.0%} of the time is moving data, not multiplying."
    if dtype == "int8" and change.before[1] == "float":
        return "No faster: machines like this reach less of their 8-bit peak than of the one for floats."
    return "No faster: what was removed took little of the time."


def _misaligned(target: Target, change: Change) -> list[str]:
    work, alignment = change.after[0], target.machine.alignment
    lost = 1 - float(work.macs.sum()) / float(work.padded(alignment).sum())
    if lost < 0.05:
        return []
    return [f"{lost:.0%} of the products are padding: channels that are multiples of {alignment} would be faster."]
