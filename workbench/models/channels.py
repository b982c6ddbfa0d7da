"""Which channels must be removed together: Torch-Pruning's dependency graph as plain data.

Removing filter *i* of a convolution removes channel *i* of its BatchNorm, of every layer that reads
it and, across a residual connection, of every layer that adds to it (Fang et al. 2023, DepGraph). The
graph is traced once for a model, and every group tried; from then on a recipe only picks which channels
to keep.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .edits import Side, Slice, channels_of
from .soundness import unsound_groups


@dataclass(frozen=True)
class Member:
    """One side of one layer in a group; ``channel[i]`` is the group's channel that its index i belongs to."""

    layer: str
    side: Side
    channel: tuple[int, ...]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels ``0..size-1`` that live and die together in all ``members``."""

    name: str
    size: int
    members: tuple[Member, ...]

    @property
    def producers(self) -> tuple[Member, ...]:
        """The members whose filters make these channels."""
        return tuple(member for member in self.members if member.side == "out")

    def slices(self, keep: Tensor) -> list[Slice]:
        """Return the edits that keep the channels where ``keep`` (bool, ``(size,)``) is true."""
        kept: dict[tuple[int, ...], tuple[int, ...]] = {}  # most members number their channels alike
        for member in self.members:
            if member.channel not in kept:
                places = keep[torch.tensor(member.channel)].nonzero().flatten()
                kept[member.channel] = tuple(places.tolist())
        return [Slice(member.layer, member.side, kept[member.channel]) for member in self.members]


@dataclass(frozen=True)
class ChannelGraph:
    """The groups that can be pruned, and for the layers that can't the reason."""

    groups: tuple[ChannelGroup, ...]
    refused: dict[str, str]


def trace_channels(module: nn.Module, image_shape: tuple[int, ...]) -> ChannelGraph:
    """Return the channel groups of ``module``; one whose channels are the model's outputs is left out."""
    import torch_pruning as tp

    # the tracer follows the autograd graph, which frozen parameters would cut
    module = copy.deepcopy(module).eval().requires_grad_(True)
    try:
        graph = tp.DependencyGraph().build_dependency(module, torch.zeros(1, *image_shape), verbose=False)
        found = list(graph.get_all_groups())
    except Exception as error:  # the tracer meets arbitrary user code and raises whatever that raises
        return ChannelGraph((), {"*": f"its channels could not be traced ({type(error).__name__})"})
    names = {layer: name for name, layer in module.named_modules()}
    groups: list[ChannelGroup] = []
    refused: dict[str, str] = {}
    for items in found:
        root = names.get(items[0].dep.target.module, "")
        reason = _refusal(graph, items, names)
        if reason:
            refused[root] = reason
            continue
        groups.append(_as_data(graph, items, root, names))
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    # of either sign and size, which may take a model's branches
    unsound = unsound_groups(module, groups, lambda part: [part(scale * noise) for scale in (1.0, -1.0, 0.1)])
    return ChannelGraph(tuple(group for group in groups if group.name not in unsound), {**refused, **unsound})


def _refusal(graph: object, items: Iterable[object], names: dict[nn.Module, str]) -> str | None:
    for item in items:
        target = item.dep.target  # type: ignore[attr-defined]
        out = graph.is_out_channel_pruning_fn(item.dep.handler)  # type: ignore[attr-defined]
        if out and not target.outputs:
            return "its channels are the model's outputs"
        if isinstance(target.module, nn.Parameter):
            return "its channels are tied to a bare parameter"
        if target.module not in names or type(target.module).__name__.startswith("_"):
            continue
        if any(True for _ in target.module.parameters()) and not channels_of(target.module, "out" if out else "in"):
            return f"layer '{names[target.module]}' ({type(target.module).__name__}) cannot be sliced yet"
    return None


def _as_data(graph: object, items: Iterable[object], root: str, names: dict[nn.Module, str]) -> ChannelGroup:
    collected: dict[tuple[str, Side], dict[int, int]] = defaultdict(dict)
    size = 0
    for item in items:
        target = item.dep.target.module  # type: ignore[attr-defined]
        size = max(size, 1 + max(item.root_idxs))  # type: ignore[attr-defined]
        if target not in names or not any(True for _ in target.parameters()):
            continue
        out = graph.is_out_channel_pruning_fn(item.dep.handler)  # type: ignore[attr-defined]
        side: Side = "out" if out or _is_depthwise(target) else "in"
        pairs = zip(item.idxs, item.root_idxs, strict=True)  # type: ignore[attr-defined]
        collected[names[target], side].update({int(index): int(channel) for index, channel in pairs})
    members = tuple(
        Member(layer, side, tuple(channel[index] for index in sorted(channel)))
        for (layer, side), channel in collected.items()
    )
    return ChannelGroup(root, size, members)


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.conv._ConvNd) and module.groups == module.in_channels > 1
