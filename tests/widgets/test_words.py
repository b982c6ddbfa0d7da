from __future__ import annotations

import pytest

from widgets.base.words import in_words
from workbench.recipe import Recipe
from workbench.techniques import TECHNIQUES


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("[]", "dense"),
        ("- prune: {ratio: 0.6}\n- quantize: {bits: 4}\n- recalibrate: {}", "60 % pruned · 4 bit · recalibrated"),
        ("- prune: {ratio: 0.125, granularity: filter}", "12.5 % of channels pruned"),
        ("- prune: {ratio: 0.3, scope: layer}", "30 % of each layer pruned"),
        ("- prune: {threshold: 0.01}", "weights under 0.01 pruned"),
        ("- quantize: {bits: 16}", "fp16"),
        ("- quantize: {format: bf16}", "bf16"),
        ("- quantize: {bits: 8, scheme: symmetric, per: tensor, activations: {}}",
         "8 bit, symmetric, per tensor, activations 8 bit"),
        ("- prune: {ratio: 0.5, layers: [fc]}", "50 % pruned (in fc)"),
        ("- prune: {ratio: 0.5, overrides: {fc: {ratio: 0.1}, conv1: {ratio: 0}}}", "50 % pruned (2 layers apart)"),
        ("- quantize: {bits: 32, overrides: {fc: {bits: 4}}}", "as it is (1 layer apart)"),
        ("- prune: {ratio: 0}", "dense"),
    ],
)  # fmt: skip
def test_a_recipe_is_named_in_a_few_words(recipe: str, words: str) -> None:
    assert in_words(Recipe.parse(recipe).to_data()) == words


def test_every_technique_has_words() -> None:
    for technique in TECHNIQUES.values():
        for example in technique.examples:
            assert in_words(Recipe.parse(example).to_data()) not in ("", "dense")
