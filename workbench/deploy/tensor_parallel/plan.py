"""Which layers are shared out: pairs of which the first is split by its outputs, the second by its inputs.

A process that holds some of a layer's output channels needs nothing from the others until a layer mixes
channels; that one, split by the same channels as inputs, gives terms of a sum (Shoeybi et al. 2019,
"Megatron-LM", section 3). These channels are the groups that pruning removes: what may be left out may be
left to another process.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.deploy.pipeline.stages import PipelineError
from workbench.models.attention import trace_heads
from workbench.models.channels import ChannelGroup, is_depthwise, trace_channels
from workbench.models.edits import InputQuantizer, QuantizeInputByBatch
from workbench.models.macs import count_macs

_ROUNDS, _WARM = 7, 2
#: Multiply-accumulates in the time in which one number of an output is added up: 4 bytes at 1 GB/s against 30 G a
#: second. A rough figure, of use only to choose between groups.
_MACS_A_NUMBER = 120


@dataclass(frozen=True)
class Share:
    """Channels that are shared out: ``summed`` are the layers whose outputs are added up; ``ms`` of all members.

    ``gain``: the multiply-accumulates that a process is spared, less those it could do while it adds up.
    """

    group: ChannelGroup
    summed: tuple[str, ...]
    ms: float
    gain: float

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers of which each process holds a part."""
        return tuple(dict.fromkeys(member.layer for member in self.group.members))

    def largest(self, processes: int) -> float:
        """Return the largest part that a process holds; all of it where there are fewer channels than processes."""
        return -(-self.group.size // processes) / self.group.size if self.group.size >= processes else 1.0

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"channels": self.group.size, "layers": list(self.layers), "summed": list(self.summed), "ms": self.ms}


@dataclass(frozen=True)
class SharePlan:
    """What is shared out, and the milliseconds of a batch in one process: of all of it and of the whole model."""

    shares: tuple[Share, ...]
    total_ms: float

    @property
    def shared_ms(self) -> float:
        """Milliseconds of the layers that are shared out."""
        return sum(share.ms for share in self.shares)


def plan_shares(module: nn.Module, images: Tensor, processes: int) -> SharePlan:
    """Return the groups of channels to share out among ``processes``: those that spare the most work together.

    ``images`` ``(N, C, H, W)`` are what the layers are timed with, on this thread. No layer adds up
    outputs of which others hold a part: of two groups that meet in one layer, one is chosen, by an exact
    search. Raises ``PipelineError`` where nothing is worth sharing.
    """
    shape = tuple(images.shape[1:])
    groups = (*trace_heads(module, shape).groups, *trace_channels(module, shape).groups)
    fit = [(group, summed) for group in groups if group.size >= processes and (summed := _summed(module, group))]
    layers = {member.layer for group, _ in fit for member in group.members}
    work, numbers = _work(module, images, layers)
    times, total = _times(module, images, layers)
    shares = []
    for group, summed in fit:
        members = {member.layer for member in group.members}
        spared = sum(work[layer] for layer in members) * (1 - 1 / processes)
        gain = spared - _MACS_A_NUMBER * sum(numbers[layer] for layer in summed)
        if gain > 0:
            shares.append(Share(group, summed, sum(times[layer] for layer in members), gain))
    if not shares:
        raise PipelineError(
            f"No two layers of this model share {processes} channels or more whose work outweighs adding their outputs "
            "up, so there is nothing to split: run it as a pipeline."
        )
    return SharePlan(tuple(_apart(shares)), total)


def _summed(module: nn.Module, group: ChannelGroup) -> tuple[str, ...]:
    """Return the layers that read the group's channels and give terms of a sum; none where it cannot be shared."""
    made, read = set(), []
    for member in group.members:
        layer = module.get_submodule(member.layer)
        if -1 in member.channel or _rounds_by_batch(layer):
            return ()
        if isinstance(layer, nn.MultiheadAttention):
            return (member.layer,)  # its projection out follows within
        if isinstance(layer, nn.modules.conv._ConvNd) and layer.groups > 1 and not is_depthwise(layer):
            return ()
        if member.side == "out":
            made.add(member.layer)
        elif isinstance(layer, nn.Linear | nn.modules.conv._ConvNd):
            read.append(member.layer)
        else:
            return ()
    return () if made & set(read) else tuple(read)


def _rounds_by_batch(layer: nn.Module) -> bool:
    """Whether the layer rounds its input to the input's own range, of which a part would have another."""
    hooks = layer._forward_pre_hooks.values()
    return any(isinstance(hook, InputQuantizer) and isinstance(hook.edit, QuantizeInputByBatch) for hook in hooks)


def _apart(shares: Sequence[Share]) -> list[Share]:
    """Return those that together gain the most, no two of which have a layer in common."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    layers = sorted({layer for share in shares for layer in share.layers})
    uses = np.array([[float(layer in share.layers) for share in shares] for layer in layers])
    found = milp(
        [-share.gain for share in shares], integrality=np.ones(len(shares)), bounds=Bounds(0, 1),
        constraints=LinearConstraint(uses, -np.inf, 1),
    )  # fmt: skip
    return [share for share, chosen in zip(shares, found.x, strict=True) if chosen > 0.5]


def _work(module: nn.Module, images: Tensor, layers: set[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return the multiply-accumulates of each layer in one pass, and how many numbers it gives."""
    macs, numbers = dict.fromkeys(layers, 0), dict.fromkeys(layers, 0)

    def note(name: str) -> Any:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            given: Tensor = output[0] if isinstance(output, tuple) else output
            macs[name] += count_macs(layer, args, kwargs, given)
            numbers[name] += given.numel()

        return hook

    with ExitStack() as stack, torch.inference_mode():
        for name in layers:
            handle = module.get_submodule(name).register_forward_hook(note(name), with_kwargs=True)
            stack.callback(handle.remove)
        module(images)
    return macs, numbers


def _times(module: nn.Module, images: Tensor, layers: set[str]) -> tuple[dict[str, float], float]:
    """Return the milliseconds of each layer and of the whole model: the least of several runs.

    It is this thread's own time, which leaves out what other work took meanwhile.
    """
    spent: dict[str, float] = {}
    rounds: dict[str, list[float]] = {name: [] for name in (*layers, "")}

    def begins(name: str) -> Any:
        return lambda *_: spent.__setitem__(name, spent.get(name, 0.0) - time.thread_time())

    def ends(name: str) -> Any:
        return lambda *_: spent.__setitem__(name, spent[name] + time.thread_time())

    with ExitStack() as stack, torch.inference_mode():
        for name in rounds:
            part = module.get_submodule(name)
            stack.callback(part.register_forward_pre_hook(begins(name)).remove)
            stack.callback(part.register_forward_hook(ends(name)).remove)
        for turn in range(_WARM + _ROUNDS):
            spent.clear()
            module(images)
            if turn >= _WARM:
                for name, seconds in spent.items():
                    rounds[name].append(1000 * seconds)
    found = {name: min(times, default=0.0) for name, times in rounds.items()}
    return found, found.pop("")
