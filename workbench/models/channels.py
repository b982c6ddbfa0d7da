"""Which channels must be removed together: Torch-Pruning's dependency graph as plain data.

Removing filter *i* of a convolution removes channel *i* of its BatchNorm, of every layer that reads
it and, across a residual connection, of every layer that adds to it (Fang et al. 2023, DepGraph). The
graph is traced once for a model, and every group tried; from then on a recipe only picks which channels
to keep.
"""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from .edits import Side, Slice, channels_of
from .layers import RECURRENT, layer_names
from .soundness import unsound_groups

#: Why the last layer keeps its channels.
OUTPUTS = "its channels are the model's outputs"
#: Why layers of some types keep theirs, whatever reads them.
_OF_TYPES: tuple[tuple[type[nn.Module] | tuple[type[nn.Module], ...], str], ...] = (
    (RECURRENT, "its channels feed back into it at every step"),
    (nn.MultiheadAttention, "its channels are divided among heads, which granularity head removes"),
    ((nn.Embedding, nn.EmbeddingBag), "the channels of an embedding cannot be removed"),
)


#: Outputs of a layer that one channel may stand for, as where its chunks are multiplied.
_CHUNKS = 4


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

    @cached_property
    def fold(self) -> int:
        """How many filters each channel stands for: in a grouped convolution for one of every group."""
        counts = (sum(place >= 0 for place in member.channel) // self.size for member in self.producers)
        return max(counts, default=1)

    @cached_property
    def sides(self) -> tuple[tuple[Tensor, tuple[tuple[str, Side], ...]], ...]:
        """The members' sides, by how they number the group's channels: most do so alike."""
        alike: dict[tuple[int, ...], list[tuple[str, Side]]] = defaultdict(list)
        for member in self.members:
            alike[member.channel].append((member.layer, member.side))
        return tuple((torch.tensor(channel), tuple(sides)) for channel, sides in alike.items())

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
    for group, keep in kept:
        if bool(keep.all()):
            continue
        padded = torch.cat([keep, torch.ones(1, dtype=torch.bool)])  # -1 is the last place: always kept
        for channel, sides in group.sides:
            flags = padded[channel]
            for side in sides:
                found[side] = found[side] & flags if side in found else flags
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what the person's code runs into; none of it is about channels
            groups, refused = _trace(module, image_shape)
        traced = True
    except Exception as error:  # the tracer meets arbitrary user code and raises whatever that raises
        given_up: list[Exception] = []
        traced = False
        try:
            groups, refused = probe_channels(module, image_shape, _noting(check, given_up))
        except Exception as problem:
            if given_up:
                raise
            said = str(problem) if isinstance(problem, TypeError) else type(error).__name__
            return ChannelGraph((), {"*": f"its channels could not be traced ({said.splitlines()[0][:80]})"})
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))

    def run(part: nn.Module) -> list[Any]:
        # of either sign and size, which may take a model's branches
        return [part(scale * noise) for scale in (1.0, -1.0, 0.1)]

    unsound = unsound_groups(module, groups, run, check)
    sound = tuple(group for group in groups if group.name not in unsound)
    if traced and unsound:
        more = _probed(module, image_shape, [group for group in groups if group.name in unsound], check)
        worse = unsound_groups(module, [*sound, *more], run, check) if more else {}
        sound = tuple(group for group in (*sound, *more) if group.name not in worse)
        unsound = {name: why for name, why in unsound.items() if name not in {group.name for group in sound}}
    return ChannelGraph(sound, {**refused, **unsound, **dict(_refused_by_type(module, sound, {*refused, *unsound}))})


def _probed(
    module: nn.Module, image_shape: tuple[int, ...], unsound: Iterable[ChannelGroup], check: Callable[[], None]
) -> list[ChannelGroup]:
    """Return groups, untried, that changing the channels of ``unsound`` ones shows: halves that are multiplied, say."""
    from .probing import probe_channels

    layers = {member.layer for group in unsound for member in group.producers}
    given_up: list[Exception] = []
    try:
        found, _ = probe_channels(module, image_shape, _noting(check, given_up), layers)
    except Exception:
        if given_up:
            raise
        return []
    before = {frozenset(group.members) for group in unsound}
    return [group for group in found if frozenset(group.members) not in before and _has_filters(group)]


def _has_filters(group: ChannelGroup) -> bool:
    """Whether the group's channels are filters, or the same places of a few chunks, and not whole attention heads."""
    return group.size > 1 and all(len(member.channel) <= _CHUNKS * group.size for member in group.producers)


def _refused_by_type(
    module: nn.Module, groups: Iterable[ChannelGroup], refused: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Yield the layers that no group and no reason names, of types whose outputs cannot be cut, with the reason."""
    known = {member.layer for group in groups for member in group.producers} | set(refused)
    for layer, name in layer_names(module).items():
        for kind, reason in _OF_TYPES:
            if isinstance(layer, kind) and name not in known:
                yield name, reason


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
            return OUTPUTS
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
