"""How many multiply-accumulates are left when groups of channels keep only some."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from workbench.models.channels import ChannelGroup

from ..draft import Draft


def share_of_macs(draft: Draft, kept: Sequence[tuple[ChannelGroup, int]], names: Sequence[str]) -> float:
    """Return the share of the original MACs of the layers ``names`` with so many channels of each group kept.

    A layer's MACs are proportional to the channels on either side of it.
    """
    removed: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for group, count in kept:
        for member in group.members:
            if member.layer in draft.layers:
                own = sum(place >= 0 for place in member.channel) / len(member.channel)
                removed[member.layer][member.side] += own * (1 - count / group.size)
    left = total = 0.0
    for name in names:
        layer = draft.layers[name]
        present = draft.tensors[layer.weight].numel() / max(1, math.prod(layer.shape))
        sides = math.prod(1 - share for share in removed[name].values())
        left += layer.macs * present * sides
        total += layer.macs
    return left / total if total else 1.0
