"""Whether channels can be taken out as the dependency graph says: tried, not believed.

The graph follows what autograd shows, and models do things it cannot see: a shape written into the
code, a constant index, one weight in two places. So every group is tried once. Zeroing what reads
some of its channels must give the same outputs as removing those channels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .edits import Slice, apply_edits, channels_of
from .tensors import tied_names

if TYPE_CHECKING:
    from .channels import ChannelGroup

#: Largest difference of the outputs, relative to the largest output.
TOLERANCE = 1e-4


def unsound_groups(
    module: nn.Module,
    groups: Sequence[ChannelGroup],
    run: Callable[[nn.Module], Any],
    check: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Return the name of each group that cannot be removed soundly → the reason.

    ``run`` gives a module's outputs for examples. All groups are tried together first, and each by
    itself only where that fails. ``check`` is called before each trial; what it raises ends them.
    """
    module = copy.deepcopy(module)
    reasons = {group.name: reason for group in groups if (reason := _unfit(module, group))}
    rest = [group for group in groups if group.name not in reasons]
    if not rest or not _differs(module, rest, run, check):
        return reasons
    for group in rest:
        reason = _differs(module, [group], run, check)
        if reason:
            reasons[group.name] = reason
    sound = [group for group in rest if group.name not in reasons]
    together = _differs(module, sound, run, check) if sound else None
    return {**reasons, **dict.fromkeys((group.name for group in sound), together)} if together else reasons


def _unfit(module: nn.Module, group: ChannelGroup) -> str | None:
    """Return what in the group's own description cannot be carried out."""
    tied = tied_names(module)
    shared = {name.rpartition(".")[0] for name in (*tied, *tied.values())}
    for member in group.members:
        layer = module.get_submodule(member.layer)
        channels = channels_of(layer, member.side)
        if channels is None:
            return f"layer '{member.layer}' ({type(layer).__name__}) cannot be sliced"
        if member.layer in shared and _parameters_tied(module, member.layer, tied):
            return f"layer '{member.layer}' shares its weight with another"
    return None


def _parameters_tied(module: nn.Module, layer: str, tied: dict[str, str]) -> bool:
    """Whether a parameter of ``layer`` is another module's too; a module under two names does not count."""
    own = module.get_submodule(layer)
    names = [name for pair in tied.items() for name in pair if name.rpartition(".")[0] == layer]
    partners = [tied.get(name) for name in names] + [other for other, name in tied.items() if name in names]
    return any(partner and module.get_submodule(partner.rpartition(".")[0]) is not own for partner in partners)


def _differs(
    module: nn.Module, groups: Sequence[ChannelGroup], run: Callable[[nn.Module], Any], check: Callable[[], None]
) -> str | None:
    """Return why half of the groups' channels cannot be removed, None where the outputs are the same.

    Tried with the first half, which no split or shuffle survives, and with a random one, since a regular
    half may fit a regular structure by accident.
    """
    generator = torch.Generator().manual_seed(0)
    for choose in (torch.arange, lambda size: torch.randperm(size, generator=generator)):
        kept = []
        for group in groups:
            keep = torch.zeros(group.size, dtype=torch.bool)
            keep[choose(group.size)[: group.size - group.size // 2]] = True
            kept.append((group, keep))
        check()
        reason = _try(module, kept, run)
        if reason:
            return reason
    return None


def _try(module: nn.Module, kept: Iterable[tuple[ChannelGroup, Tensor]], run: Callable[[nn.Module], Any]) -> str | None:
    from .channels import slices_of

    edits = slices_of(kept)
    try:
        with torch.no_grad():
            with _silenced(module, edits):
                expected = run(module)
            with restored(module, {edit.layer for edit in edits}):
                apply_edits(module, edits)
                found = run(module)
    except Exception as error:  # user code meets shapes it was not written for
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:80]
        return f"the model does not run without some of its channels ({said})"
    pairs = list(zip(tensors_in(expected), tensors_in(found), strict=True))
    same = all(ours.shape == theirs.shape and _close(ours, theirs) for ours, theirs in pairs)
    return None if same else "removing channels changes what the others compute"


@contextmanager
def restored(module: nn.Module, layers: Iterable[str] | None = None) -> Iterator[None]:
    """Undo at the end what is set inside on the module's parts, or on ``layers``; a copy would take far longer."""
    chosen = [module] if layers is None else [module.get_submodule(name) for name in layers]
    # recurrent layers list their weights beside the table of them
    before = [
        (
            part,
            {name: copy.copy(value) if isinstance(value, dict | list) else value for name, value in vars(part).items()},
        )
        for whole in chosen
        for part in whole.modules()
    ]
    try:
        yield
    finally:
        for part, state in before:
            vars(part).clear()
            vars(part).update(state)


@contextmanager
def _silenced(module: nn.Module, edits: Iterable[Slice]) -> Iterator[None]:
    """Zero, while inside, the weights by which layers read the channels that ``edits`` remove."""
    before: list[tuple[Tensor, Tensor]] = []
    try:
        for edit in edits:
            layer = module.get_submodule(edit.layer)
            channels = channels_of(layer, edit.side)
            if edit.side == "out" or channels is None:
                continue
            for name, axis in channels.axes.items():
                weight = getattr(layer, name, None)
                if weight is not None:
                    gone = torch.ones(weight.shape[axis], dtype=torch.bool)
                    # a grouped convolution's weight counts the inputs of one group
                    gone[[place for place in edit.keep if place < len(gone)]] = False
                    before.append((weight, weight.data))
                    weight.data = weight.data.index_fill(axis, gone.nonzero().flatten(), 0.0)
        yield
    finally:
        for weight, values in reversed(before):
            weight.data = values


def _close(ours: Tensor, theirs: Tensor) -> bool:
    if not ours.numel():
        return True
    scale = max(1e-6, float(theirs.abs().max()))
    return float((ours - theirs).abs().max()) <= TOLERANCE * scale


def tensors_in(output: Any) -> list[Tensor]:
    """Return the tensors of a module's output, whatever holds them."""
    if isinstance(output, Tensor):
        return [output.float()]
    if isinstance(output, dict):
        return [tensor for part in output.values() for tensor in tensors_in(part)]
    if isinstance(output, tuple | list):
        return [tensor for part in output for tensor in tensors_in(part)]
    return []
