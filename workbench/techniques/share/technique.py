"""The technique ``share``: weights share few values, in one of three ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..base import Cost, Dial, Technique
from ..context import Context
from ..draft import Draft
from . import hashed, product, scalar
from .settings import AS_IT_IS, ShareSettings

_METHODS: dict[str, Callable[[Draft, Mapping[str, ShareSettings], Context], None]] = {
    "scalar": scalar.share,
    "product": product.share,
    "hash": hashed.share,
}


def apply(draft: Draft, settings: Mapping[str, ShareSettings], context: Context) -> None:
    """Let the weights of each layer share values by its method."""
    for method, share in _METHODS.items():
        chosen = {name: item for name, item in settings.items() if item.method == method and item.bits != AS_IT_IS}
        if chosen:
            share(draft, chosen, context)


def _cost(settings: ShareSettings) -> Cost:
    return Cost.CALIBRATED if settings.method == "product" else Cost.LIVE


SHARE = Technique(
    name="share",
    summary="Let weights share few values: those of a codebook, vectors of one, or hash buckets.",
    source="Han, Mao and Dally 2016, Deep Compression; Stock et al. 2020, And the Bit Goes Down (product); "
    "Chen et al. 2015, HashedNets (hash)",
    url="https://arxiv.org/abs/1510.00149",
    settings=ShareSettings,
    apply=apply,
    cost=_cost,
    examples=(
        "- share: {bits: 4}",
        "- prune: {ratio: 0.5}\n- share: {bits: 5, start: density}",
        "- share: {bits: 3, scope: group, group: 8}",
        "- share: {entries: 24, scope: model}",
        "- share: {method: product, block: 2, bits: 6}",
        "- share: {method: product, block: 4, bits: 8, weighted: true, half: true}",
        "- share: {method: hash, buckets: 0.5}",
        "- prune: {ratio: 0.5}\n- share: {method: hash, bits: 8, half: true}",
    ),
    dial=Dial("bits", AS_IT_IS, (8, 7, 6, 5, 4, 3, 2, 1), {"scope": "layer", "entries": None, "buckets": None}),
)
