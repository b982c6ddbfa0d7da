"""Which channels must be removed together, found by changing them: for models whose graph can't be traced.

Each layer's outputs are changed one channel at a time, one image of a batch for each, while every layer
that mixes channels answers as before. Where an input of a layer differs, it reads that channel. Reshapes,
splits and shuffles need no rules of their own; whether a group may be removed is tried afterwards.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .channels import OUTPUTS, ChannelGroup, Member, channel_count, is_depthwise, tie_groups
from .edits import Side, channels_of

#: (layer, its output channel), and a layer's input channels → the output channels read there.
Place = tuple[str, int]
Reads = dict[str, dict[int, set[Place]]]


def probe_channels(
    module: nn.Module,
    image_shape: tuple[int, ...],
    check: Callable[[], None] = lambda: None,
    only: Collection[str] | None = None,
) -> tuple[list[ChannelGroup], dict[str, str]]:
    """Return the groups of channels, untried, and the reason for each layer that has none.

    ``only`` are the layers whose outputs are changed; all unless said. ``check`` is called between the runs of the
    module; what it raises ends the probing. Raises whatever the module raises on a batch of images, and
    ``TypeError`` for layers whose outputs are no tensors.
    """
    module = copy.deepcopy(module).eval()
    images = torch.randn(1, *image_shape, generator=torch.Generator().manual_seed(0))
    watched = {name: part for name, part in module.named_modules() if any(True for _ in part.parameters(False))}
    answers: dict[str, Tensor] = {}
    with torch.no_grad(), _hooked(watched, answers):
        module(images)
    reads: Reads = defaultdict(lambda: defaultdict(set))
    refused: dict[str, str] = {}
    for name in answers:
        if _mixes(watched[name]) and (only is None or name in only):
            check()
            with torch.no_grad():
                found = _readers(module, images, watched, answers, name)
            if isinstance(found, str):
                refused[name] = found
            else:
                for reader, places in found.items():
                    for place, channels in places.items():
                        reads[reader][place].update((name, channel) for channel in channels)
    return _groups(watched, reads, refused), refused


def _mixes(layer: nn.Module) -> bool:
    """Whether each output of the layer depends on many of its inputs."""
    if is_depthwise(layer):
        return False
    return isinstance(layer, nn.Linear | nn.modules.conv._ConvNd)


@contextmanager
def _hooked(watched: dict[str, nn.Module], answers: dict[str, Tensor]) -> Iterator[None]:
    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            if not isinstance(output, Tensor) or name in answers:
                raise TypeError(f"layer '{name}' is called twice, or gives no tensor")
            answers[name] = output

        return hook

    handles = [part.register_forward_hook(keep(name)) for name, part in watched.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _readers(
    module: nn.Module, images: Tensor, watched: dict[str, nn.Module], answers: dict[str, Tensor], source: str
) -> dict[str, dict[int, set[int]]] | str:
    """Return layer → its input channel → the channels of ``source`` that it reads, or why they cannot be removed."""
    axis = _axis(watched[source], answers[source])
    count = answers[source].shape[axis]
    found: dict[str, dict[int, set[int]]] = {}
    problems: list[str] = []

    def answer(name: str) -> Callable[..., Tensor]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if name != source:
                read = _differences(layer, inputs[0])
                if bool(read.all(0).any() and len(read) > 1) or (bool(read.any()) and channels_of(layer, "in") is None):
                    problems.append(f"layer '{name}' ({type(layer).__name__}) mixes its channels")
                found[name] = _places(read)
            if not _mixes(layer):
                return output
            same = answers[name].expand(count + 1, *answers[name].shape[1:])
            return _perturbed(same, axis) if name == source else same

        return hook

    handles = [part.register_forward_hook(answer(name)) for name, part in watched.items()]
    mixing = [part for part in watched.values() if _mixes(part)]
    try:
        for part in mixing:  # what they compute is known, and most of the time
            part.forward = lambda inputs: inputs
        output = module(images.expand(count + 1, *images.shape[1:]))
    finally:
        for part in mixing:
            del part.forward
        for handle in handles:
            handle.remove()
    if not isinstance(output, Tensor) or bool((output[:-1] != output[-1:]).any()):
        return OUTPUTS
    return problems[0] if problems else {name: places for name, places in found.items() if places}


def _places(read: Tensor) -> dict[int, set[int]]:
    """Return each input channel (column) that reads a changed channel (row), with all those it reads."""
    places: dict[int, set[int]] = defaultdict(set)
    for channel, place in read.nonzero().tolist():
        places[place].add(channel)
    return dict(places)


def _perturbed(same: Tensor, axis: int) -> Tensor:
    """Return a batch whose image ``b`` has channel ``b`` changed, and whose last image is as before."""
    changed = same.clone().movedim(axis, 1)
    noise = torch.randn(changed.shape[2:], generator=torch.Generator().manual_seed(1))
    for channel in range(changed.shape[1]):
        changed[channel, channel] += 3 * (noise + 1) * (1 + changed[channel, channel].abs().max())
    return changed.movedim(1, axis)


def _differences(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return which input channels (columns) differ for which changed channel (rows) from the last image's."""
    channels = inputs.movedim(_axis(layer, inputs), 1).flatten(2) if inputs.ndim > 2 else inputs[..., None]
    return (channels[:-1] != channels[-1:]).any(2)


def _axis(layer: nn.Module, values: Tensor) -> int:
    return values.ndim - 1 if isinstance(layer, nn.Linear) else 1


def _groups(watched: dict[str, nn.Module], reads: Reads, refused: dict[str, str]) -> list[ChannelGroup]:
    """Return the groups: output channels that one input reads belong together, and so do their layers."""
    sources = {name for places in reads.values() for found in places.values() for name, _ in found}
    together = {name: {name} for name in watched if name in sources}
    for places in reads.values():
        for found in places.values():
            joined = set().union(*(together[name] for name, _ in found))
            for name in joined:
                together[name] = joined
    groups = []
    for layers in {id(joined): joined for joined in together.values()}.values():
        spoiled = next((refused[name] for name in layers if name in refused), None)
        if spoiled:
            refused.update(dict.fromkeys(layers, spoiled))
        else:
            groups.append(_group(watched, reads, layers))
    return groups


def _group(watched: dict[str, nn.Module], reads: Reads, layers: set[str]) -> ChannelGroup:
    order = [name for name in watched if name in layers]
    numbers: dict[Place, int] = {}
    for name in order:
        for channel in range(channel_count(watched[name], "out")):
            numbers[name, channel] = len(numbers)
    channels = list(range(len(numbers)))  # channel -> the one it goes with
    members: list[tuple[str, Side, dict[int, int]]] = [
        (name, "out", {channel: numbers[name, channel] for channel in range(channel_count(watched[name], "out"))})
        for name in order
    ]
    for reader, places in reads.items():
        own = {place: [numbers[source] for source in found if source in numbers] for place, found in places.items()}
        own = {place: listed for place, listed in own.items() if listed}
        for listed in own.values():
            tied = {channels[number] for number in listed}
            if len(tied) > 1:
                channels[:] = [min(tied) if value in tied else value for value in channels]
        if own:
            first = {place: listed[0] for place, listed in own.items()}
            members.append((reader, "in" if _mixes(watched[reader]) else "out", first))
    for name, side, read in members:
        tie_groups(watched[name], side, read, channels)
    renumbered = {channel: number for number, channel in enumerate(dict.fromkeys(channels))}
    made = []
    for name, side, read in members:
        found_at = [read.get(index) for index in range(channel_count(watched[name], side))]
        made.append(Member(name, side, tuple(-1 if at is None else renumbered[channels[at]] for at in found_at)))
    return ChannelGroup(order[0], len(renumbered), tuple(made))
