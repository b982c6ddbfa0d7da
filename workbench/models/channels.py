"""Which channels must be removed together: Torch-Pruning's dependency graph as plain data.

Removing filter *i* of a convolution removes channel *i* of its BatchNorm, of every layer that reads
it and, across a residual connection, of every layer that adds to it (Fang et al. 2023, DepGraph). The
graph is traced once for a model, and every group tried; from then on a recipe only picks which channels
to keep.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .edits import Side, Slice, channels_of
from .soundness import unsound_groups


@dataclass(frozen=True)
class Member:
    """One side of one layer in a group; index i of that side belongs to the group's channel ``channel[i]``.

    -1 where it belongs to another group, as beside a concatenation.
    """

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
        return slices_of([(self, keep)])


@dataclass(frozen=True)
class ChannelGraph:
    """The groups that can be pruned, and for the layers that can't the reason."""

    groups: tuple[ChannelGroup, ...]
    refused: dict[str, str]


def slices_of(kept: Iterable[tuple[ChannelGroup, Tensor]]) -> list[Slice]:
    """Return the edits that keep each group's channels where its ``keep`` (bool, ``(size,)``) is true.

    One edit for each side of a layer, also where several groups meet there.
    """
    found: dict[tuple[str, Side], Tensor] = {}
    places: dict[tuple[tuple[int, ...], int], Tensor] = {}  # most members number their channels alike
    for group, keep in kept:
        if bool(keep.all()):
            continue
        padded = torch.cat([keep, torch.ones(1, dtype=torch.bool)])  # -1 is the last place: always kept
        for member in group.members:
            key = member.channel, id(keep)
            if key not in places:
                places[key] = padded[torch.tensor(member.channel)]
            side = member.layer, member.side
            found[side] = found[side] & places[key] if side in found else places[key]
    listed: dict[int, tuple[int, ...]] = {}
    for flags in found.values():
        if id(flags) not in listed:
            listed[id(flags)] = tuple(flags.nonzero().flatten().tolist())
    return [Slice(layer, side, listed[id(flags)]) for (layer, side), flags in found.items()]


def trace_channels(
    module: nn.Module, image_shape: tuple[int, ...], check: Callable[[], None] = lambda: None
) -> ChannelGraph:
    """Return the channel groups of ``module``; one whose channels are the model's outputs is left out.

    ``check`` is called between the runs of the model; what it raises ends the tracing.
    """
    from .probing import probe_channels

    try:
        groups, refused = _trace(module, image_shape)
    except Exception as error:  # the tracer meets arbitrary user code and raises whatever that raises
        given_up: list[Exception] = []
        try:
            groups, refused = probe_channels(module, image_shape, _noting(check, given_up))
        except Exception:
            if given_up:
                raise
            return ChannelGraph((), {"*": f"its channels could not be traced ({type(error).__name__})"})
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    # of either sign and size, which may take a model's branches
    unsound = unsound_groups(module, groups, lambda part: [part(scale * noise) for scale in (1.0, -1.0, 0.1)], check)
    return ChannelGraph(tuple(group for group in groups if group.name not in unsound), {**refused, **unsound})


def _noting(check: Callable[[], None], given_up: list[Exception]) -> Callable[[], None]:
    """Return ``check``, which also lists what it raises: that is not the fault of the user's code."""

    def noting() -> None:
        try:
            check()
        except Exception as error:
            given_up.append(error)
            raise

    return noting


def _trace(module: nn.Module, image_shape: tuple[int, ...]) -> tuple[list[ChannelGroup], dict[str, str]]:
    """Return the dependency graph's groups, untried, and the reason for each layer that has none."""
    import torch_pruning as tp

    # the tracer follows the autograd graph, which frozen parameters would cut
    traced = copy.deepcopy(module).eval().requires_grad_(True)
    graph = tp.DependencyGraph().build_dependency(traced, torch.zeros(1, *image_shape), verbose=False)
    names = {layer: name for name, layer in traced.named_modules()}
    groups: list[ChannelGroup] = []
    refused: dict[str, str] = {}
    for items in list(graph.get_all_groups()):
        root = names.get(items[0].dep.target.module, "")
        group = _refusal(graph, items, names) or _as_data(graph, items, root, names)
        if isinstance(group, str):
            refused[root] = group
        else:
            groups.append(group)
    return groups, refused


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


def _as_data(graph: object, items: Iterable[object], root: str, names: dict[nn.Module, str]) -> ChannelGroup | str:
    """Return the group as plain data, or why it can't be one."""
    collected: dict[tuple[nn.Module, Side], dict[int, int]] = defaultdict(dict)
    size = 0
    for item in items:
        target = item.dep.target.module  # type: ignore[attr-defined]
        size = max(size, 1 + max(item.root_idxs))  # type: ignore[attr-defined]
        if target not in names or not any(True for _ in target.parameters()):
            continue
        out = graph.is_out_channel_pruning_fn(item.dep.handler)  # type: ignore[attr-defined]
        side: Side = "out" if out or is_depthwise(target) else "in"
        pairs = zip(item.idxs, item.root_idxs, strict=True)  # type: ignore[attr-defined]
        collected[target, side].update({int(index): int(channel) for index, channel in pairs})
    channels: list[int] = list(range(size))  # channel -> the one it goes with
    for (layer, side), channel in collected.items():
        if max(channel) >= channel_count(layer, side):
            return f"layer '{names[layer]}' has fewer channels than reach it"
        tie_groups(layer, side, channel, channels)
    numbers = {channel: number for number, channel in enumerate(dict.fromkeys(channels))}
    members = []
    for (layer, side), channel in collected.items():
        places = [channel.get(index) for index in range(channel_count(layer, side))]
        numbered = (-1 if place is None else numbers[channels[place]] for place in places)
        members.append(Member(names[layer], side, tuple(numbered)))
    return ChannelGroup(root, len(numbers), tuple(members))


def channel_count(module: nn.Module, side: Side) -> int:
    """Return how many channels ``module`` has on ``side``."""
    places = channels_of(module, side)
    assert places is not None
    return int(getattr(module, places.attributes[0]))


def tie_groups(layer: nn.Module, side: Side, channel: dict[int, int], channels: list[int]) -> None:
    """Tie channels at the same position of a grouped convolution's groups, which must stay alike."""
    groups = getattr(layer, "groups", 1)
    if groups == 1 or is_depthwise(layer):
        return
    width = channel_count(layer, side) // groups
    for index, place in channel.items():
        first, second = channels[channel.get(index % width, place)], channels[place]
        if first != second:
            channels[:] = [first if value == second else value for value in channels]


def is_depthwise(module: nn.Module) -> bool:
    """Whether each channel is convolved by itself."""
    return isinstance(module, nn.modules.conv._ConvNd) and module.groups == module.in_channels > 1
