"""Pairs of layers joined channel by channel: what the first makes is read by the second alone, and in between
stands only what lets a positive factor of a channel pass.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from workbench.symbolic import symbolic_graph

from .tensors import tied_names

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
#: f(s x) = s f(x) for every s > 0, value by value: they pass whatever the axes are.
POINTWISE = (nn.ReLU, nn.LeakyReLU, nn.Identity, nn.Dropout, nn.Dropout2d)
POINTWISE_FUNCTIONS = {torch.relu, F.relu, F.leaky_relu, F.dropout}
POINTWISE_METHODS = {"relu", "relu_", "contiguous"}
#: The same within a channel, over so many axes behind the channels'; where there are fewer, over the channels.
POOLS: dict[type[nn.Module], int] = {
    nn.MaxPool1d: 1, nn.AvgPool1d: 1, nn.AdaptiveAvgPool1d: 1,
    nn.MaxPool2d: 2, nn.AvgPool2d: 2, nn.AdaptiveAvgPool2d: 2, nn.AdaptiveMaxPool2d: 2,
}  # fmt: skip
POOL_FUNCTIONS: dict[object, int] = {
    F.max_pool1d: 1, F.avg_pool1d: 1, F.max_pool2d: 2, F.avg_pool2d: 2, F.adaptive_avg_pool2d: 2,
    F.adaptive_max_pool2d: 2,
}  # fmt: skip
#: How many axes stand behind that of the channels in what a layer gives or reads.
POSITIONS: dict[type[nn.Module], int] = {nn.Linear: 0, nn.Conv1d: 1, nn.Conv2d: 2}


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


def find_pairs(module: nn.Module, stacked: Collection[str] = ()) -> tuple[Pair, ...]:
    """Return the pairs of ``module`` in call order; none where its control flow cannot be traced.

    ``stacked`` names the Linear layers that give several rows an image, ``(N, rows, channels)``: a BatchNorm that
    reads those normalises the rows.
    """
    found = []
    modules, calls, shared, nodes = _trace(module)
    for node in nodes:
        pair = _follow(node, modules, calls, stacked)
        if pair is not None and shared.isdisjoint((pair.first, pair.second)):
            found.append(pair)
    return tuple(found)


@dataclass(frozen=True)
class Normed:
    """A layer whose output nothing but the BatchNorm ``norm`` reads."""

    layer: str
    norm: str


def find_normed(module: nn.Module, stacked: Collection[str] = ()) -> tuple[Normed, ...]:
    """Return the layers of ``module`` that a BatchNorm follows, in call order; none where it cannot be traced.

    ``stacked`` is as in ``find_pairs``.
    """
    found = []
    modules, calls, shared, nodes = _trace(module)
    for node in nodes:
        reader = next(iter(node.users)) if len(node.users) == 1 else None
        if reader is None or reader.op != "call_module" or str(node.target) in shared | {""}:
            continue
        if _is_stacked(str(node.target), stacked):
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


def _is_stacked(layer: str, stacked: Collection[str]) -> bool:
    """Whether a layer, or the one it is a factor of, gives several rows an image."""
    return layer in stacked or layer.rpartition(".")[0] in stacked


def _follow(
    node: fx.Node, modules: dict[str, nn.Module], calls: Counter[fx.node.Target], stacked: Collection[str]
) -> Pair | None:
    """Walk from a layer's output to the layer that reads it, as long as nothing else does."""
    first, norm = str(node.target), None
    here, untouched = node, True
    positions = _positions_of(modules[first])
    while len(here.users) == 1:
        here = next(iter(here.users))
        layer = modules[str(here.target)] if here.op == "call_module" else None
        if isinstance(layer, NORMS):
            if not (untouched and _can_fold(layer) and calls[here.target] == 1) or _is_stacked(first, stacked):
                return None
            norm = str(here.target)
            continue
        if layer is not None and _makes_channels(layer):
            joined = calls[here.target] == 1 and _positions_of(layer) == positions
            return _pair(first, str(here.target), norm, modules) if joined else None
        left = _passes(here, positions) if layer is None else _passes_layer(layer, positions)
        if left is None:
            return None
        positions, untouched = left, False
    return None


def _positions_of(layer: nn.Module) -> int:
    return next(count for kind, count in POSITIONS.items() if isinstance(layer, kind))


def _passes_layer(layer: nn.Module, positions: int) -> int | None:
    """Return how many axes behind the channels' are left; None where a factor of a channel does not pass."""
    if isinstance(layer, nn.Flatten):
        return _flattened(positions, layer.start_dim, layer.end_dim)
    over = next((count for kind, count in POOLS.items() if isinstance(layer, kind)), None)
    return positions if isinstance(layer, POINTWISE) or over == positions else None


def _passes(node: fx.Node, positions: int) -> int | None:
    """Return the same of what is called as a function or method."""
    if node.target in (torch.flatten, "flatten"):
        given = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
        return _flattened(positions, given.get("start_dim", 0), given.get("end_dim", -1))
    if node.op == "call_function":
        passes = node.target in POINTWISE_FUNCTIONS or POOL_FUNCTIONS.get(node.target) == positions
        return positions if passes else None
    if node.op != "call_method":
        return None
    if node.target == "mean":
        return _averaged(node, positions)
    return positions if node.target in POINTWISE_METHODS else None


def _flattened(positions: int, start: object, end: object) -> int | None:
    """Return what is left of the axes when those from ``start`` on become one; the images must stay apart."""
    return min(positions, start - 1) if isinstance(start, int) and start >= 1 and end == -1 else None


def _averaged(node: fx.Node, positions: int) -> int | None:
    """Return what a mean over height and width leaves, which is written with the channels' axis left alone."""
    given = dict(zip(("dim", "keepdim"), node.args[1:], strict=False)) | node.kwargs
    axes = given.get("dim")
    axes = axes if isinstance(axes, tuple | list) else (axes,)
    over = {axis % (2 + positions) for axis in axes if isinstance(axis, int)}
    if len(over) < len(axes) or min(over, default=0) < 2:
        return None
    return positions if given.get("keepdim") else positions - len(over)


def _pair(first: str, second: str, norm: str | None, modules: dict[str, nn.Module]) -> Pair | None:
    before, after = modules[first], modules[second]
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
