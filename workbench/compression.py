"""Recipe × model → compressed model."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from torch import nn

from workbench.compressed import CompressedModel
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.encodings import Encoding, Search, encode_values, search_values, together
from workbench.encodings.packing import search_packed
from workbench.errors import WorkbenchError
from workbench.late import size_of
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques.context import Cache, Context
from workbench.techniques.draft import Draft
from workbench.techniques.finite import require_finite

#: Tensors whose encodings are searched for in step.
TOGETHER = 64
#: Bytes that an encoding holds for each value, about: its code, whether it is left, and what is left.
HELD = 3


def compress(
    model: Model | nn.Module | str,
    recipe: Recipe | str | list[Any],
    data: Dataset | str | None = None,
    *,
    image_shape: tuple[int, ...] | None = None,
) -> CompressedModel:
    """Return ``model`` compressed by ``recipe``.

    ``data`` is needed by calibrated steps, and gives the image shape where the model does not know its
    own. Raises ``RecipeError`` or another ``WorkbenchError`` with one sentence.
    """
    model = load_model(model)
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.parse(recipe)
    dataset = load_dataset(data).in_order(model.classes) if data is not None else None
    shape = image_shape or (dataset.image_shape if dataset else model.input_shape)
    if shape is None:
        raise WorkbenchError(f"The image shape of '{model.name}' is not known: give data, or image_shape=(C, H, W).")
    return compress_subject(Subject.of(model, shape), recipe, context_for(model, dataset))


def context_for(model: Model, dataset: Dataset | None, check: Callable[[], None] = lambda: None) -> Context:
    """Return the context in which a model's recipes are calibrated on ``dataset``."""
    weights = sum(4 * tensor.numel() for tensor in model.module.state_dict().values())
    context = Context(
        cache=Cache(max(96 * 2**20, 6 * weights)), encodings=Cache(max(32 * 2**20, 2 * weights)), check=check
    )
    if dataset is not None:
        context.calibration, context.training = dataset.splits.get("calibration"), dataset.splits.get("train")
        context.normalization = model.normalization or dataset.normalization
    return context


def compress_subject(subject: Subject, recipe: Recipe, context: Context) -> CompressedModel:
    """Return the subject compressed by ``recipe``, using and filling the context's cache."""
    draft = draft_for(subject, recipe, context)
    untouched, changed = _untouched(subject, context), _changed(draft, context)
    encoded = {name: changed[name] if name in changed else untouched[name] for name in draft.tensors}
    return CompressedModel(subject, recipe, draft, encoded)


def draft_for(subject: Subject, recipe: Recipe, context: Context) -> Draft:
    """Return what ``recipe`` makes of the subject's tensors and structure, before anything is packed."""
    draft = Draft(
        subject.model.module,
        subject.modules,
        subject.tensors,
        subject.layers,
        subject.image_shape,
        subject.hash,
        subject.tracing.now,
    )
    for step in recipe.steps:
        context.check()
        settings = step.resolve(draft.layers)
        require_finite(draft, step.definition, settings, context.cache)
        step.definition.apply(draft, settings, context)
    return draft


def _untouched(subject: Subject, context: Context) -> Mapping[str, Encoding]:
    """Return the encodings of the uncompressed tensors, in their order: most of what any recipe leaves."""

    def compute() -> dict[str, Encoding]:
        names, encoded = list(subject.tensors), dict[str, Encoding]()
        for start in range(0, len(names), TOGETHER):
            batch = names[start : start + TOGETHER]
            searches = (search_values(subject.tensors[name].numpy()) for name in batch)
            encoded.update(zip(batch, together(searches, context.check), strict=True))
        return encoded

    return context.cache.get(("encodings", subject.hash), compute)


def _changed(draft: Draft, context: Context) -> dict[str, Encoding]:
    """Return the encodings of the tensors that the steps changed; the same version of a tensor is encoded once.

    Those that are not known yet are encoded many in step, in batches of about as large ones: no step takes long.
    """
    known, encoded, fresh = context.encodings, dict[str, Encoding](), dict[str, Hashable]()
    for name in draft.touched | draft.packing.keys():
        if name in draft.tensors:
            key = _key(draft, name)
            found = known.find(key)
            if found is None:
                fresh[name] = key
            else:
                encoded[name] = found
    names = sorted(fresh, key=lambda name: size_of(draft.tensors, name), reverse=True)
    for start in range(0, len(names), TOGETHER):
        batch = names[start : start + TOGETHER]
        searches = (_search(draft, name, known) for name in batch)
        for name, encoding in zip(batch, together(searches, context.check), strict=True):
            context.check()
            encoded[name] = encoding
            known.put(fresh[name], encoding, HELD * math.prod(encoding.shape))
    return encoded


def _search(draft: Draft, name: str, known: Cache) -> Search[Encoding]:
    storage, packing = draft.stored.get(name), draft.packing.get(name)
    if packing is not None:
        return search_packed(_whole(draft, name, known), packing)
    return search_values(draft.tensors[name].numpy()) if storage is None else storage.search()


def _whole(draft: Draft, name: str, known: Cache) -> Encoding:
    """Return an encoding to pack in another way; what was not asked for without that is not made small first."""
    storage, key = draft.stored.get(name), ("encoding", draft.version(name))
    if storage is not None and key not in known:
        return storage.unpacked()
    return known.get(key, lambda: encode_values(draft.tensors[name].numpy()))


def _key(draft: Draft, name: str) -> Hashable:
    """Return what the cache keeps a tensor's encoding under."""
    packing = draft.packing.get(name)
    return ("encoding", draft.version(name)) if packing is None else ("packed", draft.version(name), packing)
