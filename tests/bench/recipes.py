"""Random recipes such as a person's hand on the sliders makes."""

from __future__ import annotations

import random

from workbench.recipe import Recipe


def random_live_recipes(count: int, seed: int) -> list[Recipe]:
    """Return ``count`` different live recipes: weights or filters pruned, 1 to 8 bits, in all combinations."""
    chance = random.Random(seed)
    recipes: dict[str, Recipe] = {}
    while len(recipes) < count:
        steps: list[dict[str, object]] = []
        if chance.random() < 0.7:
            granularity = chance.choice(("weight", "weight", "filter"))
            scope = "layer" if granularity == "filter" else chance.choice(("global", "layer"))
            ratio = round(chance.uniform(0.05, 0.95 if granularity == "weight" else 0.6), 3)
            steps.append({"prune": {"ratio": ratio, "granularity": granularity, "scope": scope}})
        if chance.random() < 0.7 or not steps:
            scheme = chance.choice(("affine", "symmetric"))
            steps.append({"quantize": {"bits": chance.randint(1, 8), "scheme": scheme}})
        recipe = Recipe.parse(steps)
        recipes[recipe.hash] = recipe
    return list(recipes.values())
