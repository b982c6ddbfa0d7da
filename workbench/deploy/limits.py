"""Words on what a file does not hold as the recipe has it, and where in the model that is. Formats share them."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING

from workbench.compressed import CompressedModel
from workbench.techniques.codebook import SharedWeights
from workbench.techniques.storage import TableCodes

if TYPE_CHECKING:
    from onnx import NodeProto

#: From this share of zeros on a person expects something of them.
_SPARSE = 0.01


def zeros_stay(compressed: CompressedModel, format_name: str) -> Iterator[str]:
    """Say that single zeros are stored, and multiplied, like other weights."""
    weights = sum(layer.params for layer in compressed.layers)
    zeros = sum(layer.sparsity * layer.params for layer in compressed.layers)
    if compressed.masked and zeros > _SPARSE * weights:
        yield (
            f"{zeros / weights:.0%} of the weights are zero; {format_name} stores zeros like other weights and its "
            "kernels multiply by them. Prune filters to gain size and time here, or keep the packed file for size."
        )


def tables_widen(compressed: CompressedModel, to: str = "fp32", kept: Container[str] = ()) -> Iterator[str]:
    """Say that weights from a table of values are written out, but for those in ``kept``."""
    tables = (TableCodes, SharedWeights)
    found = [name for name, storage in compressed.stored.items() if isinstance(storage, tables) and name not in kept]
    if found:
        yield f"The weights of {some(found)} come from a table of values, which has no place here: stored as {to}."


def codes_widen(compressed: CompressedModel, to: str = "fp32") -> Iterator[str]:
    """Say that weights on a grid are written out as floats."""
    bits = sorted({codes.bits for codes in compressed.codes.values()})
    if bits:
        yield f"Weights of {_numbers(bits)} bits are stored as {to}: smaller only in a format that holds integers."


def activations_simulated(compressed: CompressedModel) -> Iterator[str]:
    """Say that inputs are rounded by float operators."""
    if compressed.grids:
        yield "Activations are rounded in float, as PyTorch simulates it: as accurate, and slower than an int8 format."


def floats_in(compressed: CompressedModel, holder: str, to: str = "fp32") -> Iterator[str]:
    """Say all that a format of plain floats, called ``holder``, does not hold as the recipe has it."""
    yield from activations_simulated(compressed)
    yield from codes_widen(compressed, to)
    yield from tables_widen(compressed, to)
    yield from zeros_stay(compressed, holder)


def place_of(node: NodeProto) -> str:
    """Return where in the model a node of its ONNX graph is: ``in layer 'stage1.0.act'``, or ``at`` the node's name.

    PyTorch names a node by its modules, each by its name within the one around: ``/stage1/stage1.0/act/Relu``.
    """
    layer = before = ""
    for part in node.name.strip("/").split("/")[:-1]:
        outer = layer.removesuffix(before) if before and part.startswith(f"{before}.") else f"{layer}." if layer else ""
        layer, before = f"{outer}{part}", part
    return f"in layer '{layer}'" if layer else f"at '{node.name or next(iter(node.output), node.op_type)}'"


def _numbers(values: list[int]) -> str:
    return ", ".join(map(str, values[:-1])) + (" and " if values[1:] else "") + str(values[-1])


def some(names: list[str]) -> str:
    """Return the first few names, quoted, and how many more there are."""
    return ", ".join(f"'{name}'" for name in names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
