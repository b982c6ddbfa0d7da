"""What enters a layer, whether its call gives it by place or by name.

Hooks that want it are registered with ``with_kwargs=True``: without, what is given by name never reaches them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

ATTENTION = ("query", "key", "value")


def entering(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what enters ``layer`` in a call: its input, of attention query, key and value."""
    places = _places(layer, args, kwargs)
    return tuple(args[place] if isinstance(place, int) else kwargs[place] for place in places)


def changed(
    layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], change: Callable[[Any], Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the call's arguments with ``change`` made to what enters; one value in several places stays one."""
    places, given = _places(layer, args, kwargs), entering(layer, args, kwargs)
    found = {id(value): value for value in given}
    found = {key: change(value) for key, value in found.items()}
    put = {place: found[id(value)] for place, value in zip(places, given, strict=True)}
    by_place = tuple(put.get(place, value) for place, value in enumerate(args))
    return by_place, {name: put.get(name, value) for name, value in kwargs.items()}


def runs_as(layer: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether ``layer`` is one of ``kinds`` and computes what that does, with no forward of its own."""
    kind: Any = next((kind for kind in kinds if isinstance(layer, kind)), None)
    if kind is None or "forward" in vars(layer):
        return False
    return all(getattr(type(layer), name, None) is getattr(kind, name, None) for name in ("forward", "_conv_forward"))


def _places(layer: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[int | str]:
    """Return where the call holds what enters; a class of its own may call its input as it likes."""
    names = ATTENTION if isinstance(layer, nn.MultiheadAttention) else ("input",)
    count = min(len(args), len(names))
    found: list[int | str] = [*range(count), *(name for name in names[count:] if name in kwargs)]
    first = next((name for name, value in kwargs.items() if isinstance(value, Tensor)), None)
    return found if found or first is None else [first]
