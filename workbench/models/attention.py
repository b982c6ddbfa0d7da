"""Attention heads that can be taken out: of ``nn.MultiheadAttention``, and of attention made of Linear layers.

A head is a run of features of queries, keys and values, and of what the output projection reads. Where a
model's code lets the number of heads follow from the features, slicing them all removes heads; how many
features a head has is found by trying, from few to many, since part of a head cannot be removed soundly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import nn

from .channels import ChannelGraph, ChannelGroup, Member
from .fewer_heads import takes_fewer_heads
from .soundness import unsound_groups

_QUERY_KEY_VALUE = re.compile(
    r"(?:to_|w_?|in_)?(?:q|k|v|query|key|value|queries|keys|values)(?:_?proj(?:ection)?|_lin)?"
)


def trace_heads(module: nn.Module, image_shape: tuple[int, ...]) -> ChannelGraph:
    """Return a group for each attention whose heads can be removed, one channel a head."""
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    groups: list[ChannelGroup] = []
    refused: dict[str, str] = {}
    known: dict[tuple[type[nn.Module], int], int] = {}
    for name, parent, inputs, output in _attentions(module):
        width = module.get_submodule(output).in_features
        assert isinstance(width, int)
        kind = type(parent), width
        for features in [known[kind]] if kind in known else _divisors(width):
            group = _group(module, name, inputs, output, width, features)
            unsound = unsound_groups(module, [group], lambda part: [part(scale * noise) for scale in (1.0, -1.0)])
            if not unsound:
                groups.append(group)
                known[kind] = features
                break
        else:
            refused[name] = "its code does not let the number of heads follow from the features"
    for name, part in module.named_modules():
        if isinstance(part, nn.MultiheadAttention) and takes_fewer_heads(part):
            rows = len(part.in_proj_weight)
            heads = tuple(place % (rows // 3) // part.head_dim for place in range(rows))
            groups.append(ChannelGroup(name, rows // 3 // part.head_dim, (Member(name, "out", heads),)))
        elif isinstance(part, nn.MultiheadAttention):
            refused[name] = "attention with keys of another width, or with bias_k or zeros added, keeps its heads"
    return ChannelGraph(tuple(groups), refused)


def _attentions(module: nn.Module) -> Iterator[tuple[str, nn.Module, list[str], str]]:
    """Yield what looks like attention: its name, itself, the layers that make q, k and v, and the projection."""
    for name, parent in module.named_modules():
        if isinstance(parent, nn.MultiheadAttention):
            continue
        layers = {child: part for child, part in parent.named_children() if isinstance(part, nn.Linear)}
        prefix = f"{name}." if name else ""
        named = [child for child in layers if _QUERY_KEY_VALUE.fullmatch(child.lower())]
        for output, projection in layers.items():
            fused = [
                child
                for child, part in layers.items()
                if part.out_features == 3 * projection.in_features and part.in_features == projection.out_features
            ]
            apart = [child for child in named if layers[child].out_features == projection.in_features]
            inputs = fused[:1] or (apart if len(apart) == 3 else [])
            if inputs and output not in inputs and output not in named:
                yield name, parent, [prefix + child for child in inputs], prefix + output
                break


def _group(module: nn.Module, name: str, inputs: list[str], output: str, width: int, features: int) -> ChannelGroup:
    def member(layer: str, side: str, count: int) -> Member:
        heads = tuple(place % width // features for place in range(count))
        return Member(layer, "out" if side == "out" else "in", heads)

    made = [member(layer, "out", len(module.get_submodule(layer).get_parameter("weight"))) for layer in inputs]
    return ChannelGroup(name or "attention", width // features, (*made, member(output, "in", width)))


def _divisors(width: int) -> list[int]:
    return [number for number in range(1, width // 2 + 1) if width % number == 0]
