"""What the search for the smallest encoding asks of codes, worked out for many tensors together.

A move of a slider changes every layer. How often each code occurs, the entropy of that, and the table of
frequencies under which the codes would be coded are each a dozen calls on a few numbers: on matrices of all layers
they take as long as on a single one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from workbench.encodings.ans import SYMBOLS, tables_of
from workbench.encodings.base import zero_order_bytes
from workbench.encodings.integers import BYTE_FILLING, Packed, codes_in_bytes

JOINED_BYTES = 512
"""Bytes below which a table of frequencies of whole bytes costs more than their neighbourhood saves."""


def tally(tensors: Iterable[Packed]) -> None:
    """Find counts, entropies and tables of frequencies of ``tensors``, which then need not find their own."""
    widths: dict[int, list[Packed]] = defaultdict(list)
    for one in tensors:
        if one.bits <= 8 and one.codes.size and False not in one.tables:
            widths[one.bits].append(one)
    for bits, group in widths.items():
        _tally(group, bits)


def _tally(group: list[Packed], bits: int) -> None:
    if bits in BYTE_FILLING:
        bytes_ = np.stack([np.bincount(np.frombuffer(one.pack(), np.uint8), minlength=SYMBOLS) for one in group])
        counts = (bytes_.astype(np.float64) @ codes_in_bytes(bits)).astype(np.int64)  # exact, and by BLAS
        counts[:, 0] -= [8 // bits * one.nbytes - one.codes.size for one in group]
        for one, own, length in zip(group, bytes_, _lengths(bytes_), strict=True):
            one.__dict__["byte_counts"] = own[:length]
        long = [one for one in group if one.nbytes >= JOINED_BYTES]
        for one, table in zip(long, tables_of((one.byte_counts for one in long), SYMBOLS), strict=True):
            one.tables[True] = table
    else:
        counts = np.zeros((len(group), 1 << bits), np.int64)
        for row, one in zip(counts, group, strict=True):
            row[: len(one.counts)] = one.counts
    entropies, tables = zero_order_bytes(counts).tolist(), tables_of(counts, 1 << bits)
    for one, own, length, entropy, table in zip(group, counts, _lengths(counts), entropies, tables, strict=True):
        one.__dict__.update(counts=own[:length], _entropy=entropy)
        one.tables[False] = table


def _lengths(counts: np.ndarray) -> list[int]:
    """Return for each row how many columns there are up to the last that counts anything."""
    lengths: list[int] = (counts.shape[1] - (counts[:, ::-1] > 0).argmax(1)).tolist()
    return lengths
