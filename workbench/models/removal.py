"""Parts of a model taken out whole, as plain data: blocks that are passed by, recurrent layers that are fewer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

_STACKED = re.compile(r"(?P<tensor>.+)_l(?P<place>\d+)(?P<way>(?:_reverse)?)")


@dataclass(frozen=True)
class Remove:
    """Take ``layer`` (any module) out with all its tensors.

    ``leaves`` is what stands in its place: its ``input``, or ``zeros`` for a branch that is added to a shortcut.
    """

    layer: str
    leaves: Literal["input", "zeros"] = "input"


@dataclass(frozen=True)
class Shorten:
    """Of the recurrent layer ``layer``'s stacked layers, counted from 0, keep ``keep``."""

    layer: str
    keep: tuple[int, ...]


class Passed(nn.Module):
    """What entered a block, in the block's place."""

    def forward(self, entering: Tensor, *_: Any, **__: Any) -> Tensor:
        """Return a copy, so that what later works in place leaves the shortcut alone."""
        return entering.clone()


class Nothing(nn.Module):
    """Zero in the place of a branch; ``pair``: as attention gives it, with no weights beside it."""

    def __init__(self, pair: bool) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, entering: Tensor, *_: Any, **__: Any) -> Tensor | tuple[Tensor, None]:
        """Return a single zero, which addition spreads to any shape."""
        zero = entering.new_zeros(())
        return (zero, None) if self.pair else zero


def remove_module(module: nn.Module, edit: Remove) -> None:
    """Carry out ``edit`` on ``module`` in place."""
    parent, _, own = edit.layer.rpartition(".")
    gone = module.get_submodule(edit.layer)
    taken = Passed() if edit.leaves == "input" else Nothing(isinstance(gone, nn.MultiheadAttention))
    setattr(module.get_submodule(parent), own, taken.eval())


def shorten(module: nn.Module, edit: Shorten) -> None:
    """Carry out ``edit`` on ``module`` in place; the tensors' remaining values are kept."""
    layer = module.get_submodule(edit.layer)
    assert isinstance(layer, nn.RNNBase)
    present = {name: layer._parameters[name] for names in layer._all_weights for name in names}
    for name in present:
        delattr(layer, name)
    names = renamed(present, edit.keep)
    layer._all_weights = [[names[name] for name in own] for own in layer._all_weights if own[0] in names]
    layer._flat_weights_names = [name for own in layer._all_weights for name in own]
    layer._flat_weights = [None] * len(layer._flat_weights_names)
    for name, new in names.items():
        setattr(layer, new, present[name])
    layer.num_layers = len(edit.keep)
    layer._flat_weight_refs = [None] * len(layer._flat_weights)


def renamed(names: Iterable[str], keep: tuple[int, ...]) -> Mapping[str, str]:
    """Return the present name of each tensor that stays → its new one; tensors of other layers are left out."""
    places = {place: number for number, place in enumerate(keep)}
    found = {}
    for name in names:
        match = _STACKED.fullmatch(name)
        if match and int(match["place"]) in places:
            found[name] = f"{match['tensor']}_l{places[int(match['place'])]}{match['way']}"
    return found


def is_inside(name: str, module: str) -> bool:
    """Whether ``name``, of a module or a tensor, is ``module`` or a part of it."""
    return name == module or name.startswith(f"{module}.")


def stacked_weights(layer: nn.RNNBase, name: str, place: int) -> tuple[str, ...]:
    """Return the names of the weight matrices of one of the stacked layers of ``layer``, which goes by ``name``."""
    matches = {own: _STACKED.fullmatch(own) for own, tensor in layer.named_parameters() if tensor.ndim > 1}
    return tuple(f"{name}.{own}" for own, match in matches.items() if match and int(match["place"]) == place)
