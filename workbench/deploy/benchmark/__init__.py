"""How fast a file runs on this machine: ``benchmark`` times it, alone or beside others.

``cores`` and ``noise`` know the machine, ``engines`` the runtimes, ``worker`` is the fresh process in which
a file runs, ``harness`` visits several in turn.
"""

from __future__ import annotations

from .engines import RUNTIMES, EngineError, KernelRow
from .harness import benchmark
from .noise import Noise
from .values import Benchmark, Interval, Memory

__all__ = ["RUNTIMES", "Benchmark", "EngineError", "Interval", "KernelRow", "Memory", "Noise", "benchmark"]
