"""Logits of a zoo model under many recipes on the test split, run once and kept, for replaying the estimator.

They lie in the cache folder under a hash of the model, so that a new checkpoint is run again; what is
there is read, what is missing is run (ResNet-20: about 8 s a recipe at two threads).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.compression import compress_subject, context_for
from workbench.data.load import load_dataset
from workbench.data.paths import cache_folder
from workbench.evaluation import Evaluator
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.subject import Subject

DATASET = "fashion_mnist"

QUANTIZED = [f"quantize: {{bits: {bits}, per: {per}}}" for bits in (8, 6, 5, 4, 3, 2) for per in ("channel", "tensor")]
PRUNED = [
    f"prune: {{ratio: {ratio}, scope: {scope}}}"
    for ratio in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    for scope in ("global", "layer")
]
FILTERS = [f"prune: {{ratio: {ratio}, granularity: filter, scope: layer}}" for ratio in (0.2, 0.5)]
ACTIVATIONS = [
    f"quantize: {{bits: {bits}, activations: {{bits: {inputs}, observer: {observer}}}}}"
    for bits, inputs, observer in ((8, 8, "minmax"), (8, 6, "percentile"), (8, 5, "minmax"), (6, 4, "percentile"))
]
JOINT = [
    f"prune: {{ratio: {ratio}}}\n- quantize: {{bits: {bits}}}"
    for ratio, bits in ((0.1, 6), (0.2, 8), (0.3, 5), (0.4, 4), (0.5, 4), (0.3, 3), (0.7, 8))
]
RECALIBRATED = [
    f"{step}\n- recalibrate: {{}}"
    for step in (
        "prune: {ratio: 0.5}", "prune: {ratio: 0.7}", "prune: {ratio: 0.8}", "prune: {ratio: 0.9}",
        "quantize: {bits: 4}", "quantize: {bits: 3}", "quantize: {bits: 2}",
    )
]  # fmt: skip
SINGLE = [
    "prune: {{ratio: 0.5, layers: ['{layer}']}}",
    "prune: {{ratio: 0.9, layers: ['{layer}']}}",
    "quantize: {{bits: 3, layers: ['{layer}']}}",
    "quantize: {{bits: 2, layers: ['{layer}']}}",
]


@dataclass(frozen=True, eq=False)
class Predictions:
    """Baseline logits ``(N, C)``, labels ``(N,)``, and logits ``(N, C)`` under each recipe."""

    model: str
    baseline: NDArray[np.float32]
    labels: NDArray[np.int64]
    recipes: tuple[str, ...]
    logits: tuple[NDArray[np.float32], ...]


def recipes_for(layers: tuple[str, ...], recalibrates: bool, single: int = 3) -> list[Recipe]:
    """Return recipes over all degrees of damage; ``single`` layers get recipes of their own."""
    texts = [*QUANTIZED, *PRUNED, *FILTERS, *ACTIVATIONS, *JOINT, *(RECALIBRATED if recalibrates else [])]
    for index in np.unique(np.linspace(0, len(layers) - 1, single).astype(int)):
        texts += [text.format(layer=layers[index]) for text in SINGLE]
    return [Recipe.parse(f"- {text}") for text in texts]


def load_predictions(name: str, recipes: Sequence[Recipe] | None = None) -> Predictions:
    """Return the zoo model's logits under ``recipes`` (default: all of ours), running those not kept yet."""
    data = load_dataset(DATASET)
    model = load_model(name)
    subject = Subject.of(model, data.image_shape)
    folder = cache_folder("predictions") / f"{name}-{subject.hash}"
    folder.mkdir(exist_ok=True)
    if recipes is None:
        recalibrates = any("running_mean" in key for key in model.module.state_dict())
        recipes = recipes_for(tuple(layer.name for layer in subject.layers), recalibrates)
    recipes = [Recipe(), *recipes]
    missing = [recipe for recipe in recipes if not (folder / f"{recipe.hash}.npy").exists()]
    if missing:
        evaluator = Evaluator(subject, data["test"], model.normalization or data.normalization)
        context = context_for(model, data)
        for recipe in missing:
            runner = evaluator.runner(compress_subject(subject, recipe, context))
            partial = folder / f"{recipe.hash}.partial.npy"
            np.save(partial, np.concatenate(list(evaluator.batches(runner))))
            partial.replace(folder / f"{recipe.hash}.npy")
            print(".", end="", flush=True)
        print(f" {name}: ran {len(missing)} recipes")
    baseline, *logits = (np.load(folder / f"{recipe.hash}.npy") for recipe in recipes)
    texts = tuple(recipe.to_yaml().strip().replace("\n", " ") for recipe in recipes[1:])
    return Predictions(name, baseline, data["test"].labels.numpy(), texts, tuple(logits))


def available_models(names: tuple[str, ...]) -> Iterator[str]:
    """Yield those of ``names`` whose checkpoint is there."""
    from workbench.models.zoo import CHECKPOINTS

    yield from (name for name in names if (CHECKPOINTS / f"{name}.safetensors").exists())
