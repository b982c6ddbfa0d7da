"""Tables of values that follow from their name alone, so that a file need not hold them.

Values are sorted where code order is free; those of fp8 stand in the order of its bit patterns.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from workbench.encodings.base import EncodingError

#: Quantiles of a normal distribution, scaled to ±1, zero among them (Dettmers et al. 2023, QLoRA, appendix E).
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


@lru_cache
def named_table(name: str) -> NDArray[np.float32]:
    """Return the values of the table called ``name``; unknown names raise EncodingError.

    ``sign`` (±1), ``e4m3`` and ``e5m2`` (256 values by bit pattern, NaN and infinity read as zero),
    ``nf4``, and ``pot2`` … ``pot8``, ``apot2`` … ``apot8`` for that many bits.
    """
    if name == "sign":
        values = np.array([-1, 1], np.float32)
    elif name == "nf4":
        values = np.array(NF4, np.float32)
    elif name == "e4m3":
        values = _fp8(4, 3, 7)
    elif name == "e5m2":
        values = _fp8(5, 2, 15)
    elif name[:-1] in ("pot", "apot") and name[-1] in "2345678":
        magnitudes = (_powers if name[:-1] == "pot" else _sums_of_powers)(int(name[-1]) - 1)
        # not by np.unique: the first call in a process loads all of numpy.ma, a slider's whole time
        values = np.array(sorted({*-magnitudes, *magnitudes}), np.float32) + np.float32(0)
    else:
        raise EncodingError(f"no table of values is called {name!r}")
    values.setflags(write=False)
    return values


def table_values(table: NDArray[np.float32] | str) -> NDArray[np.float32]:
    """Return a table's values, given as they are or by name."""
    return named_table(table) if isinstance(table, str) else table


def _fp8(exponent_bits: int, mantissa_bits: int, bias: int) -> NDArray[np.float32]:
    """8-bit floats by bit pattern (Micikevicius et al. 2022, FP8 Formats for Deep Learning)."""
    pattern = np.arange(256)
    mantissa = pattern & (2**mantissa_bits - 1)
    exponent = (pattern >> mantissa_bits) & (2**exponent_bits - 1)
    fraction = mantissa / 2**mantissa_bits
    values = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))
    # e4m3 gives up one pattern for NaN, e5m2 a whole exponent for infinity and NaN
    special = (pattern & 0x7F) == 0x7F if exponent_bits == 4 else exponent == 31
    values[special] = 0
    signed: NDArray[np.float32] = (np.where(pattern & 0x80, -values, values) + 0.0).astype(np.float32)
    return signed


def _powers(bits: int) -> NDArray[np.float64]:
    """Zero and the powers of two 1, 1/2, …: 2**bits magnitudes (Zhou et al. 2017, INQ)."""
    return np.concatenate([[0.0], 2.0 ** -np.arange(2**bits - 1)])


def _sums_of_powers(bits: int) -> NDArray[np.float64]:
    """Sums of ``bits // 2`` powers of two, and one more of a single bit where ``bits`` is odd, scaled to 1.

    Li et al. 2020, "Additive Powers-of-Two Quantization", equation 5; exponents dealt out as in the
    authors' code.
    """
    terms: list[list[float]] = [[0.0] for _ in range(bits // 2)]
    single: list[list[float]] = [[0.0]] if bits % 2 else []
    exponent = 0
    for turn in range(3):
        if turn == 2 and single:
            exponent += 1
            single[0].append(2.0**-exponent)
        for term in terms:
            exponent += 1
            term.append(2.0**-exponent)
    sums = np.array([sum(choice) for choice in product(*terms, *single)])
    return np.asarray(sums / sums.max())
