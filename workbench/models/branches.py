"""Residual branches: what is computed between a shortcut's start and the addition at its end, in modules.

Read from the graph that ``torch.fx`` traces; a model whose control flow depends on values has none.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

import torch
from torch import fx, nn

from workbench.symbolic import symbolic_graph

from .removal import Remove, is_inside

_ADD = {operator.add, operator.iadd, torch.add}


def find_branches(module: nn.Module) -> Iterator[tuple[str, tuple[Remove, ...]]]:
    """Yield a name for each branch, and what takes it out; of two branches that are added, the larger.

    The last module of a branch leaves zeros, those before it what enters them.
    """
    graph = symbolic_graph(module)
    if graph is None:
        return
    modules = dict(module.named_modules())
    places = {node: place for place, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if not _adds(node):
            continue
        sides = [part for part in node.args if isinstance(part, fx.Node)]
        if len(sides) != 2 or sides[0] is sides[1]:
            continue
        branches = [_alone(side, node) for side in sides]
        sizes = [_size(branch, modules) for branch in branches]
        branch, end = (branches[0], sides[0]) if sizes[0] >= sizes[1] else (branches[1], sides[1])
        found = _modules_of(branch, _module_node(end), graph, places)
        if max(sizes) and found:
            yield found


def _adds(node: fx.Node) -> bool:
    return (node.op == "call_function" and node.target in _ADD) or (
        node.op == "call_method" and node.target in ("add", "add_")
    )


def _alone(end: fx.Node, reader: fx.Node) -> set[fx.Node]:
    """Return the nodes whose results reach nothing but ``reader``, and that through ``end``."""
    if set(end.users) != {reader}:
        return set()
    found, waiting = {end}, list(end.all_input_nodes)
    while waiting:
        node = waiting.pop()
        if node in found or node.op in ("placeholder", "get_attr") or not set(node.users) <= found:
            continue
        found.add(node)
        waiting.extend(node.all_input_nodes)
    return found


def _size(branch: set[fx.Node], modules: dict[str, nn.Module]) -> int:
    called = [modules[str(node.target)] for node in branch if node.op == "call_module"]
    return sum(parameter.numel() for part in called for parameter in part.parameters())


def _module_node(end: fx.Node) -> fx.Node:
    """Return the node of the module that gives ``end``; attention gives it in a pair."""
    if end.op == "call_function" and end.target is operator.getitem and end.args[1] == 0:
        given = end.args[0]
        return given if isinstance(given, fx.Node) and len(given.users) == 1 else end
    return end


def _modules_of(
    branch: set[fx.Node], end: fx.Node, graph: fx.Graph, places: dict[fx.Node, int]
) -> tuple[str, tuple[Remove, ...]] | None:
    """Return the branch as modules, each the outermost that has nothing beside it; None if it ends in no module."""
    nodes: dict[str, set[fx.Node]] = {}
    for node in graph.nodes:
        for path in _stack(node):
            nodes.setdefault(path, set()).add(node)
    whole = [path for path, own in nodes.items() if path and own <= branch]
    outermost = [path for path in whole if not any(path != other and is_inside(path, other) for other in whole)]
    last = next((path for path in outermost if end in nodes[path]), None)
    if last is None:
        return None
    order = sorted(outermost, key=lambda path: min(places[node] for node in nodes[path]))
    removals = tuple(Remove(path, "zeros" if path == last else "input") for path in order)
    first = order[0]
    common = _common(order)
    return common or first, removals


def _stack(node: fx.Node) -> list[str]:
    """Return the modules that a node is in, from the outside."""
    found = [str(path[0]) for path in node.meta.get("nn_module_stack", {}).values()]
    return [*found, str(node.target)] if node.op == "call_module" else found


def _common(paths: list[str]) -> str:
    """Return the module that all ``paths`` are in, empty for the model itself."""
    parts = [path.split(".") for path in paths]
    shared = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return ".".join(shared)
