"""Time of a network on a machine: a roofline for each kernel, bent by the machine's efficiencies.

A kernel takes ``√(compute² + memory²) + overhead``, where compute is twice its multiply-accumulates over
the peak of its number type, memory what it moves over the bandwidth: the roofline of Williams, Waterman and
Patterson (2009) with a rounded ridge. Data sheets promise what no kernel reaches, so that each term is
multiplied by ``exp(u)``: one ``u`` for each kind of inner loop, one for memory, one for the overhead. Their
logarithms are what is learnt about a machine; see ``population.py`` and ``calibrate.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .work import OPS, Array, Work

Dtype = Literal["float", "int8"]
DTYPES: tuple[Dtype, ...] = ("float", "int8")
#: The numbers that are learnt for a machine and a number type, as logarithms of time.
TERMS = (*OPS, "memory", "overhead")
#: Cycles that a kernel costs beside its work, where nothing better is known.
_CYCLES = 10_000.0


@dataclass(frozen=True)
class Machine:
    """What a data sheet says, of the cores used: peaks in GOP/s, bandwidth in GB/s, clock in GHz.

    A multiply-accumulate is two operations. ``float_bytes``: of a number of the type that floats are
    computed in. ``int8_peak``: None where there are no 8-bit instructions. ``cores``: threads used;
    ``family``, ``in_order`` and ``x86`` say of which machines it is typical. ``sparse_gain``: by how much 2:4
    sparsity speeds products up, in practice. ``overhead_us``: of a kernel, where the maker says.
    """

    family: Literal["cpu", "mcu", "gpu"]
    float_peak: float
    int8_peak: float | None
    bandwidth: float
    clock: float
    cores: int = 1
    float_bytes: int = 4
    alignment: int = 4
    in_order: bool = False
    x86: bool = False
    sparse_gain: float = 1.0
    overhead_us: float | None = None

    @property
    def overhead(self) -> float:
        """Seconds that a kernel costs beside its work, before anything is learnt: 10,000 cycles where not given."""
        return self.overhead_us * 1e-6 if self.overhead_us else _CYCLES / (self.clock * 1e9)

    def peak(self, dtype: Dtype) -> float:
        """Operations a second; where there are no 8-bit instructions, those on floats."""
        return 1e9 * (self.int8_peak or self.float_peak if dtype == "int8" else self.float_peak)

    @property
    def traits(self) -> Array:
        """By what machines of a family differ that a data sheet's peaks don't say: 1, ln cores, in order, x86."""
        return np.array([1.0, np.log(self.cores), self.in_order, self.x86])


def seconds(work: Work, machine: Machine, dtype: Dtype, u: Array) -> tuple[Array, Array]:
    """Return each task's time, and its derivatives by ``u`` (one for each of ``TERMS``)."""
    compute, memory = _nominal(work, machine, dtype)
    compute = compute * np.exp(u[work.op])
    memory = memory * np.exp(u[-2])
    overhead = work.count * machine.overhead * np.exp(u[-1])
    ridge = np.hypot(compute, memory)
    share = np.divide(compute**2, ridge, out=np.zeros_like(ridge), where=ridge > 0)
    slopes = np.zeros((len(ridge), len(TERMS)))
    slopes[np.arange(len(ridge)), work.op] = share
    slopes[:, -2] = ridge - share
    slopes[:, -1] = overhead
    return ridge + overhead, slopes


def log_time(work: Work, machine: Machine, dtype: Dtype, u: Array) -> tuple[float, Array]:
    """Return the logarithm of all tasks' milliseconds, and its derivatives by ``u``."""
    times, slopes = seconds(work, machine, dtype, u)
    total = times.sum()
    return float(np.log(total * 1e3)), slopes.sum(axis=0) / total


def _nominal(work: Work, machine: Machine, dtype: Dtype) -> tuple[Array, Array]:
    """Return compute and memory seconds as the data sheet would have them."""
    size = 1 if dtype == "int8" else machine.float_bytes
    macs = work.padded(machine.alignment) / np.where(work.sparse, machine.sparse_gain, 1.0)
    compute = 2 * macs / machine.peak(dtype)
    memory = (work.activations + work.weights) * size / (machine.bandwidth * 1e9)
    return compute * work.count, memory * work.count
