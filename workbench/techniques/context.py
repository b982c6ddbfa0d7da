"""What a technique may use beside the Draft: data, what was learned, and a cache of what sliders ask for again."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

from workbench.data.dataset import Normalization, Split
from workbench.data.paths import user_folder
from workbench.encodings.artefacts import Artefacts
from workbench.errors import WorkbenchError

T = TypeVar("T")


class CacheFull(Exception):
    """What is worked out beforehand would fill the cache beyond what it may."""


class Cache:
    """Computed values by key, within a budget of bytes; the least recently used is dropped first."""

    def __init__(self, budget: int = 32 * 2**20) -> None:
        self._entries: OrderedDict[Any, tuple[Any, int]] = OrderedDict()
        self._budget = budget
        self._bytes = 0
        self._most = math.inf

    def get(self, key: Any, compute: Callable[[], T]) -> T:
        """Return the value under ``key``, computing it when missing."""
        if key in self._entries:
            self._entries.move_to_end(key)
            found: T = self._entries[key][0]
            return found
        value = compute()
        self.put(key, value)
        return value

    def find(self, key: Any) -> Any:
        """Return the value under ``key``, or None where there is none."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key][0]

    def put(self, key: Any, value: Any, nbytes: int | None = None) -> None:
        """Keep ``value``, which is new and takes so many bytes where that is known, under ``key``."""
        size = _size_of(value) if nbytes is None else nbytes
        if self._bytes + size > self._most:
            raise CacheFull
        self._entries[key] = value, size
        self._bytes += size
        while self._bytes > self._budget and len(self._entries) > 1:
            self._bytes -= self._entries.popitem(last=False)[1][1]

    @contextmanager
    def filling(self, share: float) -> Iterator[None]:
        """Let no more than this share of the budget be filled inside: what would exceed it raises ``CacheFull``.

        Nothing of what was put inside stays then: it was of no use, and in the way of others.
        """
        before, self._most = set(self._entries), share * self._budget
        try:
            yield
        except CacheFull:
            for key in set(self._entries) - before:
                self.forget(key)
            raise
        finally:
            self._most = math.inf

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Keep nothing of what is put inside."""
        before = set(self._entries)
        try:
            yield
        finally:
            for key in set(self._entries) - before:
                self.forget(key)

    @property
    def filled(self) -> float:
        """The share of the budget that is used."""
        return self._bytes / self._budget

    def __contains__(self, key: Any) -> bool:
        """Whether something is kept under ``key``."""
        return key in self._entries

    def __iter__(self) -> Iterator[Any]:
        """Yield the keys, the least recently used first."""
        return iter(tuple(self._entries))

    def forget(self, key: Any) -> None:
        """Drop what is kept under ``key``."""
        _, size = self._entries.pop(key, (None, 0))
        self._bytes -= size


def _size_of(value: Any) -> int:
    """Return about how many bytes a cached value holds."""
    if isinstance(value, dict):
        return sum(map(_size_of, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_size_of, value))
    return 1024 + int(getattr(value, "nbytes", 0))


@dataclass
class Context:
    """What a technique may use beside the Draft.

    ``calibration`` and ``training`` are None where no data was given; ``artefacts`` holds what was
    learned. ``cache`` keeps what many recipes ask of the model, ``encodings`` what they made of its tensors, which
    would soon push out the rest. ``check`` raises when the work is no longer wanted; long steps call it at least
    every 50 ms.
    """

    calibration: Split | None = None
    normalization: Normalization | None = None
    cache: Cache = field(default_factory=Cache)
    check: Callable[[], None] = lambda: None
    training: Split | None = None
    encodings: Cache = field(default_factory=Cache)
    artefacts: Artefacts = field(default_factory=lambda: Artefacts(user_folder() / "trained"))

    def mixed_images(self, count: int) -> Tensor:
        """Return ``count`` calibration images at most, as ``Split.drawn`` draws them."""
        return self.mixed(count)[0]

    def require_labels(self, what: str) -> None:
        """Raise ``WorkbenchError`` where the calibration images have no labels, which ``what`` looks at."""
        if self.calibration is not None and not self.calibration.labelled:
            raise WorkbenchError(
                f"{what} looks at the loss, which needs labels, and the calibration images have none: choose a "
                "criterion that does without, such as magnitude, wanda or obs."
            )

    def mixed(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the images of ``mixed_images`` and their labels."""
        assert self.calibration is not None
        order = self.calibration.drawn(count)
        return self.calibration.images[order], self.calibration.labels[order]
