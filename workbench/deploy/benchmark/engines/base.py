"""What the harness asks of a runtime: open a file, run it, and say where the time goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError

Feeds = dict[str, NDArray[Any]]


class EngineError(WorkbenchError):
    """A file could not be opened or run by a runtime."""


@dataclass(frozen=True)
class Input:
    """An input of a model; a size that the file leaves open is None. ``dtype`` is numpy's name for it."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class KernelRow:
    """An operator that the runtime ran: ``op`` in its words, ``implementation`` where it names one.

    ``ms``: its time in a run, what the runtime's profiler adds to it taken off where that is known.
    """

    name: str
    op: str
    dtype: str
    ms: float
    implementation: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


class Engine(Protocol):
    """A model opened in a runtime. ``version`` is the runtime's name and version."""

    version: str
    inputs: tuple[Input, ...]

    def bind(self, feeds: Feeds) -> Callable[[], Any]:
        """Return what runs the model on ``feeds`` once, as a deployed program would call it."""
        ...

    def kernels(self, feeds: Feeds) -> Sequence[KernelRow]:
        """Return the operators of a run with their times, empty where the runtime doesn't tell."""
        ...


@dataclass(frozen=True)
class Runtime:
    """A runtime: the endings of its files, the module it needs, how to get it, how it opens a file."""

    name: str
    endings: tuple[str, ...]
    module: str
    install: str
    open: Callable[[Path, int], Engine]


def make_feeds(inputs: Sequence[Input], batch: int, shape: tuple[int, ...] | None) -> Feeds:
    """Return random inputs of ``batch``; ``shape`` (without the batch) fills sizes that the file leaves open.

    Floats are standard normal, integers zero: an index that every table has.
    """
    generator = np.random.default_rng(0)
    feeds: Feeds = {}
    for entry in inputs:
        sizes = _sizes(entry, batch, shape)
        if np.dtype(entry.dtype).kind == "f":
            feeds[entry.name] = generator.standard_normal(sizes).astype(entry.dtype)
        else:
            feeds[entry.name] = np.zeros(sizes, entry.dtype)
    return feeds


def _sizes(entry: Input, batch: int, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    declared = entry.shape
    if declared and declared[0] is not None and declared[0] != batch:
        raise EngineError(
            f"The file was written for batches of {declared[0]}, not {batch}: give --batch {declared[0]}, or export "
            "it anew."
        )
    rest = declared[1:]
    if shape is not None:
        fits = len(shape) == len(rest) and all(a in (None, b) for a, b in zip(rest, shape, strict=True))
        if rest and not fits:
            raise EngineError(f"Input '{entry.name}' takes {_words(rest)}, not {_words(shape)}.")
        return (batch, *shape)
    known = tuple(size for size in rest if size is not None)
    if len(known) < len(rest) or not declared:
        raise EngineError(f"The file leaves the size of input '{entry.name}' open: give it as --shape 1,28,28.")
    return (batch, *known)


def _words(sizes: Sequence[int | None]) -> str:
    return "×".join("any" if size is None else str(size) for size in sizes)
