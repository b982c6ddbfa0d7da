"""What a training step takes: its time in one way against another, and the most memory its tensors have at once."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


def seconds_of(
    ways: Mapping[str, Callable[[], None]], check: Callable[[], None] = lambda: None, rounds: int = 3, warm: int = 1
) -> dict[str, float]:
    """Return the median seconds of each of ``ways`` over ``rounds``, after ``warm`` that are not timed.

    They run in turns, so that what else the machine does hits all.
    """
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(warm + rounds):
        for name, run in ways.items():
            check()
            begin = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - begin)
    return {name: median(seconds[warm:]) for name, seconds in found.items()}


def peak_bytes(run: Callable[[], None]) -> int:
    """Return the most bytes that the tensors made by ``run`` have at one moment, going back included.

    Memory is what tensors are kept in; what an operator takes for itself while it runs is not seen.
    """
    watcher = _Watcher()
    with watcher:
        run()
    return watcher.most


class _Watcher(TorchDispatchMode):
    """Follows the storages that operators make, each until it is freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {storage.data_ptr() for storage in _storages((args, kwargs))}
        result = func(*args, **(kwargs or {}))
        for storage in _storages(result):
            if storage.data_ptr() not in given:
                self._follow(storage)
        self.most = max(self.most, self._now)
        return result

    def _follow(self, storage: torch.UntypedStorage) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self._known or not size:
            return
        self._known.add(place)
        self._now += size
        weakref.finalize(storage, self._free, place, size)

    def _free(self, place: int, size: int) -> None:
        self._known.discard(place)
        self._now -= size


def _storages(values: Any) -> list[torch.UntypedStorage]:
    return [value.untyped_storage() for value in tree_iter(values) if isinstance(value, torch.Tensor)]
