"""Tensors by name, of which some are not worked out before they are asked for.

A slider waits for a size, which follows from codes: the floating-point values that they stand for are wanted
later, by what runs images, or never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence

import torch
from torch import Tensor


class Late:
    """A float32 tensor of a known ``shape`` that ``compute`` gives; two threads that ask at once may both call it."""

    dtype = torch.float32

    def __init__(self, shape: Sequence[int], compute: Callable[[], Tensor]) -> None:
        self.shape = torch.Size(shape)
        self._compute = compute
        self._value: Tensor | None = None

    @property
    def value(self) -> Tensor:
        """The tensor."""
        if self._value is None:
            self._value = self._compute()
        return self._value


class Tensors(MutableMapping[str, Tensor]):
    """A mapping of names to tensors that may hold late ones; whoever asks for one never sees a difference."""

    def __init__(self, tensors: Mapping[str, Tensor] | None = None) -> None:
        given = {} if tensors is None else tensors
        self._held: dict[str, Tensor | Late] = dict(given._held if isinstance(given, Tensors) else given)

    def __getitem__(self, name: str) -> Tensor:
        held = self._held[name]
        return held.value if isinstance(held, Late) else held

    def __setitem__(self, name: str, value: Tensor) -> None:
        self._held[name] = value

    def __delitem__(self, name: str) -> None:
        del self._held[name]

    def __contains__(self, name: object) -> bool:
        return name in self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, name: str, value: Tensor | Late) -> None:
        """Set what is held under ``name``."""
        self._held[name] = value

    def held(self, name: str) -> Tensor | Late:
        """Return what is held under ``name``, without working it out."""
        return self._held[name]


def held(tensors: Mapping[str, Tensor], name: str) -> Tensor | Late:
    """Return what has the shape and the type of the tensor called ``name``, without working it out."""
    return tensors.held(name) if isinstance(tensors, Tensors) else tensors[name]


def size_of(tensors: Mapping[str, Tensor], name: str) -> int:
    """Return how many values the tensor called ``name`` has, without working it out."""
    return held(tensors, name).shape.numel()
