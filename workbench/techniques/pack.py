"""How the stored weights are packed: with which code, and which index of the zeros.

Han, Mao and Dally 2016, "Deep Compression", sections 2 (relative index) and 4 (Huffman). Without this step
every tensor takes what is about the smallest; with it the choice can be seen in bytes. Beside Huffman's code
there is an asymmetric numeral system (Duda 2013, arXiv 1311.2540), which does not round to whole bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, model_validator

from workbench.encodings.packing import Packing

from .base import Cost, Settings, Technique
from .context import Context
from .draft import Draft


class PackSettings(Settings):
    """Settings of ``pack``."""

    code: Literal["best", "huffman", "ans", "none"] = Field(
        "best",
        description="Code of integers: Huffman; ANS, which needs no whole bits; none, as many bits as the largest "
        "needs; or the smallest.",
    )
    sparse: Literal["best", "none", "bitmask", "relative"] = Field(
        "best",
        description="Where zeros are: a bit for each place, the gaps between the others, nothing, or the smallest.",
    )
    index_bits: int | None = Field(
        None, ge=2, le=8, description="Bits of a gap of the relative index; those that cost least unless said."
    )

    @model_validator(mode="after")
    def _has_an_index(self) -> PackSettings:
        if self.index_bits is not None and self.sparse not in ("best", "relative"):
            raise ValueError(f"index_bits are those of a relative index, and sparse is {self.sparse}; leave one out")
        return self


def apply(draft: Draft, settings: Mapping[str, PackSettings], context: Context) -> None:
    """Note how each layer's weights are to be packed; values stay as they are."""
    for name, chosen in settings.items():
        for weight in draft.layers[name].weights:
            draft.packing[weight] = Packing(chosen.code, chosen.sparse, chosen.index_bits)


def _cost(settings: PackSettings) -> Cost:
    return Cost.LIVE


PACK = Technique(
    name="pack",
    summary="Choose the code and the sparse index that weights are packed with: Deep Compression's last step.",
    source="Han, Mao and Dally 2016, Deep Compression",
    url="https://arxiv.org/abs/1510.00149",
    settings=PackSettings,
    apply=apply,
    cost=_cost,
    examples=(
        "- prune: {ratio: 0.6}\n- share: {bits: 4}\n- pack: {}",
        "- prune: {ratio: 0.6}\n- share: {bits: 5}\n- pack: {code: huffman}",
        "- prune: {ratio: 0.8}\n- quantize: {bits: 3}\n- pack: {code: ans, sparse: none}",
        "- prune: {ratio: 0.9}\n- quantize: {bits: 4}\n- pack: {code: none, sparse: relative, index_bits: 4}",
    ),
)
