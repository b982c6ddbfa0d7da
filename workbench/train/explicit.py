"""What training decided, as a recipe that says it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from workbench.compressed import CompressedModel
from workbench.recipe import Recipe, Step
from workbench.techniques.trained import FinetuneSettings


def explicit_bits(recipe: Recipe, compressed: CompressedModel) -> Recipe:
    """Return ``recipe`` with the bits that ``learn_bits`` chose as a step ``quantize`` and fine-tuning after it.

    ``compressed`` is what the recipe made: the bits are read off it. The new recipe has to be trained anew.
    """
    steps: list[dict[str, Any]] = []
    for step, plain in zip(recipe.steps, recipe.to_data(), strict=True):
        steps += _spelled(step, compressed) if step.technique == "learn_bits" else [plain]
    return Recipe.parse(steps)


def _spelled(step: Step, compressed: CompressedModel) -> list[dict[str, Any]]:
    figures = {figure.name: figure for figure in compressed.layers}
    chosen = step.resolve(figures)
    bits = {name: int(figures[name].bits) for name in chosen if figures[name].bits <= 8}
    most = Counter(bits.values()).most_common(1)[0][0] if bits else 8
    quantize: dict[str, Any] = {"bits": most, "range": "mse"}
    others = {name: {"bits": value} for name, value in bits.items() if value != most}
    others |= {name: {"bits": 32} for name in chosen if name not in bits}
    if others:
        quantize["overrides"] = others
    plain = step.settings.model_dump(exclude_defaults=True)
    tuned = {name: value for name, value in plain.items() if name in FinetuneSettings.model_fields}
    scope = {} if step.layers == ("*",) else {"layers": list(step.layers)}
    return [{"quantize": {**quantize, **scope}}, {"finetune": {**tuned, **scope}}]
