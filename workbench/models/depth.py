"""Which parts of a model can be taken out whole: blocks, branches, layers, and levels of recurrent ones.

A block can go where what entered it can stand in for what left it: one tensor of the same shape. A branch
that is added to a shortcut can go where zero can stand in for it; which modules it is made of is read from the
traced graph. Of stacked recurrent layers all but the first can go. The model is run once to see the shapes,
and every removal is tried: what does not run without a part keeps it, and the reason is told.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from .branches import find_branches
from .edits import Edit, apply_edits
from .layers import layer_names
from .removal import Remove, Shorten, is_inside, stacked_weights
from .soundness import restored, tensors_in
from .tensors import tied_names


@dataclass(frozen=True)
class Block:
    """What can be taken out at once: modules, or (``level``) one of a recurrent layer's stacked layers.

    ``layers`` are the layers of the table that are in it, ``weights`` names their weight matrices.
    """

    name: str
    layers: tuple[str, ...]
    weights: tuple[str, ...]
    removals: tuple[Remove, ...] = ()
    level: tuple[str, int] | None = None


@dataclass(frozen=True)
class Depth:
    """The blocks that can be taken out, none inside another, and the reasons why others can't."""

    blocks: tuple[Block, ...]
    refused: dict[str, str] = field(default_factory=dict)
    stacks: dict[str, int] = field(default_factory=dict)

    def edits(self, chosen: Iterable[Block]) -> list[Remove | Shorten]:
        """Return the edits that take all of ``chosen`` out."""
        found: list[Remove | Shorten] = []
        gone: dict[str, set[int]] = {}
        for block in chosen:
            found += block.removals
            if block.level is not None:
                gone.setdefault(block.level[0], set()).add(block.level[1])
        for layer, places in gone.items():
            found.append(Shorten(layer, tuple(place for place in range(self.stacks[layer]) if place not in places)))
        return found


@dataclass
class _Seen:
    """What one run shows of a module."""

    calls: int = 0
    keeps_shape: bool = False


def trace_depth(module: nn.Module, image_shape: tuple[int, ...], layers: Iterable[str] | None = None) -> Depth:
    """Return what can be taken out of ``module``, which takes images of ``image_shape`` ``(C, H, W)``.

    ``layers`` are the names of the table's layers, where they are not those of ``module``.
    """
    module = copy.deepcopy(module).eval()
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        seen, expected = _watch(module, noise)
        search = _Search(module, seen, tuple(layer_names(module).values() if layers is None else layers))
        blocks, refused, stacks = search.blocks(), search.refused, search.stacks

        def problem(chosen: Sequence[Block]) -> str | None:
            return _problem(module, Depth((), stacks=stacks).edits(chosen), noise, expected)

        reasons = {block.name: problem([block]) for block in blocks}
        refused |= {name: reason for name, reason in reasons.items() if reason}
        sound = tuple(block for block in blocks if not reasons[block.name])
        together = problem(sound) if len(sound) > 1 else None
    if together:
        refused |= {block.name: together for block in sound}
        sound = ()
    return Depth(sound, refused, stacks)


def _watch(module: nn.Module, images: Tensor) -> tuple[dict[str, _Seen], list[Tensor]]:
    """Run ``module``; return what each of its parts did, by its first name, and the outputs."""
    seen = {name: _Seen() for name, _ in module.named_modules() if name}

    def watch(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            entered = given[0] if given else None
            seen[name].calls += 1
            seen[name].keeps_shape = (
                isinstance(entered, Tensor)
                and isinstance(output, Tensor)
                and (entered.shape, entered.dtype) == (output.shape, output.dtype)
            )

        return hook

    handles = [part.register_forward_hook(watch(name)) for name, part in module.named_modules() if name]
    try:
        outputs = tensors_in(module(images))
    finally:
        for handle in handles:
            handle.remove()
    return seen, outputs


class _Search:
    """What may be taken out as far as one run, the traced graph and shared tensors tell."""

    def __init__(self, module: nn.Module, seen: dict[str, _Seen], layers: tuple[str, ...]) -> None:
        self.refused: dict[str, str] = {}
        self.stacks = {
            name: part.num_layers
            for name, part in module.named_modules()
            if isinstance(part, nn.RNNBase) and part.num_layers > 1
        }
        self._module, self._seen = module, seen
        self._layers = layers
        self._named = dict(module.named_modules(remove_duplicate=False))
        self._tied = tied_names(module)

    def blocks(self) -> list[Block]:
        """Return blocks that do not overlap, in the model's order; those that can't go are in ``refused``."""
        branches = dict(find_branches(self._module))
        ends = [edit.layer for removals in branches.values() for edit in removals]
        # the input of a branch would be added a second time: there zeros take its place
        whole = [name for name in self._outermost(self._module) if not any(is_inside(name, end) for end in ends)]
        whole = [name for name in whole if name not in self._layers]
        found: dict[str, tuple[Remove, ...]] = {name: (Remove(name),) for name in whole}
        for name, removals in branches.items():
            if not any(_overlap(edit.layer, other) for edit in removals for other in whole):
                found[name] = removals
        taken = [edit.layer for removals in found.values() for edit in removals]
        for name in self._outermost(self._module):
            if not any(_overlap(name, other) for other in taken):
                found[name] = (Remove(name),)
        order = {name: place for place, name in enumerate(self._named)}
        blocks = []
        for name, removals in sorted(found.items(), key=lambda item: min(order[edit.layer] for edit in item[1])):
            layers = tuple(layer for edit in removals for layer in self._inside(edit.layer))
            reason = self._shared([edit.layer for edit in removals])
            if reason:
                self.refused[name] = reason
            elif layers:
                blocks.append(Block(name, layers, self._weights(removals), removals))
        taken = [edit.layer for block in blocks for edit in block.removals]
        return [*blocks, *(level for name in self.stacks for level in self._levels(name, taken))]

    def _levels(self, name: str, taken: Sequence[str]) -> list[Block]:
        """Return all but the first of a recurrent layer's stacked layers."""
        reason = self._shared([name])
        if any(is_inside(name, other) for other in taken):
            return []
        if reason:
            self.refused[name] = reason
            return []
        layer = self._named[name]
        assert isinstance(layer, nn.RNNBase)
        return [
            Block(f"{name}[{level}]", (name,), stacked_weights(layer, name, level), level=(name, level))
            for level in range(1, self.stacks[name])
        ]

    def _outermost(self, module: nn.Module, prefix: str = "") -> list[str]:
        """Return the outermost parts that keep the shape; of a sequence of nothing else, its parts."""
        found = []
        for own, child in module.named_children():
            name = f"{prefix}{own}"
            parts = [f"{name}.{part}" for part, _ in child.named_children() if self._inside(f"{name}.{part}")]
            listed = isinstance(child, nn.Sequential) and all(map(self._keeps_shape, parts))
            if self._keeps_shape(name) and (not listed or name in self._layers):
                found.append(name)
            else:
                found += self._outermost(child, f"{name}.")
        return found

    def _keeps_shape(self, name: str) -> bool:
        return name in self._seen and self._seen[name].keeps_shape and bool(self._inside(name))

    def _inside(self, name: str) -> tuple[str, ...]:
        return tuple(layer for layer in self._layers if is_inside(layer, name))

    def _weights(self, removals: Sequence[Remove]) -> tuple[str, ...]:
        return tuple(
            name
            for name, parameter in self._module.named_parameters()
            if parameter.ndim > 1 and any(is_inside(name, edit.layer) for edit in removals)
        )

    def _shared(self, names: Sequence[str]) -> str | None:
        """Return why what is in the modules ``names`` is needed elsewhere too, or None where it isn't."""

        def inside(name: str) -> bool:
            return any(is_inside(name, other) for other in names)

        for name in names:
            if self._seen[name].calls != 1:
                return f"it is called {self._seen[name].calls} times"
        parts = {part for name, part in self._named.items() if inside(name)}
        elsewhere = next((name for name, part in self._named.items() if part in parts and not inside(name)), None)
        if elsewhere is not None:
            return f"a part of it is also '{elsewhere}'"
        for pair in self._tied.items():
            if len({inside(name) for name in pair}) == 2:
                return "it shares the tensor '{}' with '{}'".format(*sorted(pair, key=inside, reverse=True))
        return None


def _problem(module: nn.Module, edits: Iterable[Edit], images: Tensor, expected: Sequence[Tensor]) -> str | None:
    """Return why the model does not work without what ``edits`` take out, None where it does."""
    try:
        with restored(module):
            apply_edits(module, edits)
            found = tensors_in(module(images))
    except Exception as error:  # user code meets what it was not written for
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:80]
        return f"the model does not run without it ({said})"
    if [output.shape for output in found] != [output.shape for output in expected]:
        return "the model's outputs have another shape without it"
    return None if all(bool(output.isfinite().all()) for output in found) else "the outputs are not finite without it"


def _overlap(one: str, other: str) -> bool:
    return is_inside(one, other) or is_inside(other, one)
