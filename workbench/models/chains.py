"""Pairs of layers joined channel by channel: what the first makes is read by the second alone, and in between
stands only what lets a positive factor of a channel pass.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from workbench.symbolic import symbolic_graph

from .tensors import tied_names

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
#: f(s x) = s f(x) for every s > 0, channel by channel.
HOMOGENEOUS = (
    nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool1d, nn.MaxPool2d, nn.AvgPool1d,
    nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten,
)  # fmt: skip
FUNCTIONS = {
    torch.relu, F.relu, F.leaky_relu, F.dropout, F.max_pool1d, F.max_pool2d, F.avg_pool1d, F.avg_pool2d,
    F.adaptive_avg_pool2d, F.adaptive_max_pool2d, torch.flatten,
}  # fmt: skip
METHODS = {"relu", "relu_", "flatten", "contiguous"}


@dataclass(frozen=True)
class Pair:
    """Channel c of ``first``'s output is all that columns ``c * repeat`` … of ``second`` read.

    ``norm`` names the BatchNorm between them, if there is one. ``depthwise``: the second has one filter for
    each channel.
    """

    first: str
    second: str
    norm: str | None
    repeat: int
    depthwise: bool


def find_pairs(module: nn.Module) -> tuple[Pair, ...]:
    """Return the pairs of ``module`` in call order; none where its control flow cannot be traced."""
    found = []
    modules, calls, shared, nodes = _trace(module)
    for node in nodes:
        pair = _follow(node, modules, calls)
        if pair is not None and shared.isdisjoint((pair.first, pair.second)):
            found.append(pair)
    return tuple(found)


@dataclass(frozen=True)
class Normed:
    """A layer whose output nothing but the BatchNorm ``norm`` reads."""

    layer: str
    norm: str


def find_normed(module: nn.Module) -> tuple[Normed, ...]:
    """Return the layers of ``module`` that a BatchNorm follows, in call order; none where it cannot be traced."""
    found = []
    modules, calls, shared, nodes = _trace(module)
    for node in nodes:
        reader = next(iter(node.users)) if len(node.users) == 1 else None
        if reader is None or reader.op != "call_module" or str(node.target) in shared | {""}:
            continue
        norm = str(reader.target)
        if norm not in shared and calls[norm] == 1 and _can_fold(modules[norm]):
            found.append(Normed(str(node.target), norm))
    return tuple(found)


def _can_fold(norm: nn.Module) -> bool:
    return isinstance(norm, NORMS) and norm.affine and norm.track_running_stats


def _trace(module: nn.Module) -> tuple[dict[str, nn.Module], Counter[fx.node.Target], set[str], list[fx.Node]]:
    """Return modules, how often each is called, those whose tensors are read elsewhere, and calls that make channels.

    Nothing is returned of what cannot be traced, and only layers that are called once.
    """
    graph = symbolic_graph(module)
    if graph is None:
        return {}, Counter(), set(), []
    modules = dict(module.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    # a weight that is read in two places cannot take a factor in one of them
    read_elsewhere = [str(node.target) for node in graph.nodes if node.op == "get_attr"]
    names = [*read_elsewhere, *(name for both in tied_names(module).items() for name in both)]
    shared = {name.rpartition(".")[0] for name in names}
    making = [
        node
        for node in graph.nodes
        if node.op == "call_module" and calls[node.target] == 1 and _makes_channels(modules[str(node.target)])
    ]
    return modules, calls, shared, making


def _makes_channels(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Linear) and not _is_parametrized(layer)


def _is_parametrized(layer: nn.Module) -> bool:
    return nn.utils.parametrize.is_parametrized(layer) or "weight" not in dict(layer.named_parameters(recurse=False))


def _follow(node: fx.Node, modules: dict[str, nn.Module], calls: Counter[fx.node.Target]) -> Pair | None:
    """Walk from a layer's output to the layer that reads it, as long as nothing else does."""
    first, norm = str(node.target), None
    here, untouched = node, True
    while len(here.users) == 1:
        here = next(iter(here.users))
        if here.op != "call_module":
            if not _passes(here):
                return None
            untouched = False
            continue
        layer = modules[str(here.target)]
        if isinstance(layer, NORMS):
            if not (untouched and _can_fold(layer) and calls[here.target] == 1):
                return None
            norm = str(here.target)
        elif isinstance(layer, HOMOGENEOUS):
            untouched = False
        else:
            return _pair(first, str(here.target), norm, modules) if calls[here.target] == 1 else None
    return None


def _passes(node: fx.Node) -> bool:
    if node.op == "call_function":
        return node.target in FUNCTIONS
    if node.op != "call_method":
        return False
    # a mean over height and width, which is written with the channels' axis left alone
    axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    return node.target in METHODS or (node.target == "mean" and axes in ((2, 3), [2, 3], (-2, -1), [-2, -1], 2, -1))


def _pair(first: str, second: str, norm: str | None, modules: dict[str, nn.Module]) -> Pair | None:
    before, after = modules[first], modules[second]
    if not _makes_channels(after):
        return None
    outputs = int(operator.attrgetter("weight")(before).shape[0])
    if isinstance(after, nn.Linear):
        if isinstance(before, nn.Linear) and after.in_features != outputs:
            return None
        repeat, rest = divmod(after.in_features, outputs)
        return None if rest else Pair(first, second, norm, repeat, False)
    assert isinstance(after, nn.Conv1d | nn.Conv2d)
    if after.in_channels != outputs:
        return None
    if after.groups == after.in_channels == after.out_channels and outputs > 1:
        return Pair(first, second, norm, 1, True)
    return Pair(first, second, norm, 1, False) if after.groups == 1 else None


def columns_of(weight: Tensor, pair: Pair) -> Tensor:
    """Return the second layer's weight with a row for each channel that joins the pair, ``(channels, values)``."""
    if pair.depthwise:
        return weight.flatten(1)
    flat = weight.flatten(2).movedim(1, 0) if weight.ndim > 2 else weight.T
    joined: Tensor = flat.flatten(1).unflatten(0, (-1, pair.repeat))
    return joined.flatten(1)


def scaled_columns(weight: Tensor, factors: Tensor, pair: Pair) -> Tensor:
    """Return the second layer's weight with what reads each channel multiplied by its factor."""
    if pair.depthwise:
        return weight * factors.view(-1, *[1] * (weight.ndim - 1))
    return weight * factors.repeat_interleave(pair.repeat).view(1, -1, *[1] * (weight.ndim - 2))
