"""Settings to start from, one click each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workbench.recipe import Recipe


@dataclass(frozen=True)
class Preset:
    """A recipe with a name; ``help`` says what it does. ``repaired``: it ends by recalibrating BatchNorm."""

    name: str
    help: str
    steps: str
    repaired: bool = False

    def recipe(self, batchnorm: bool) -> Recipe:
        """Return the recipe, for a model with or without BatchNorm."""
        from workbench.recipe import Recipe

        return Recipe.parse(self.steps + ("\n- recalibrate: {}" if self.repaired and batchnorm else ""))


PRESETS = (
    Preset("8 bit", "Weights as 8-bit integers: four times smaller, hardly ever a loss.", "- quantize: {bits: 8}"),
    Preset("Half the size", "Weights as 16-bit floats: half the bytes, the same answers.", "- quantize: {bits: 16}"),
    Preset(
        "Half the channels",
        "Half of every layer's filters removed, then BatchNorm recalibrated: smaller and really faster.",
        "- prune: {granularity: filter, scope: layer, ratio: 0.5}",
        repaired=True,
    ),
    Preset(
        "Deep Compression",
        "60 % of the weights pruned, the rest shared in a codebook of 16 values, and all packed with the smallest of "
        "Huffman and ANS codes and of sparse indices (Han et al. 2016).",
        "- prune: {ratio: 0.6}\n- share: {bits: 4}\n- pack: {}",
    ),
    Preset(
        "Small file",
        "60 % of the weights pruned, the rest in 4 bits, BatchNorm recalibrated.",
        "- prune: {ratio: 0.6}\n- quantize: {bits: 4}",
        repaired=True,
    ),
)
