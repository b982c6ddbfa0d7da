"""Made images in the place of the training images: for calibration, and for whatever trains.

They are made once for a model, data and settings, and kept in a file of tensors under the hash of all of these, so
that a recipe trained on them finds the same ones again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from workbench.data.cut import calibration_of, stratified
from workbench.data.dataset import Dataset, Split
from workbench.data.load import load_dataset
from workbench.data.paths import user_folder
from workbench.encodings.artefacts import Artefact, Artefacts
from workbench.errors import WorkbenchError
from workbench.jobs import Job
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.run.courtesy import stand_back
from workbench.subject import model_hash

from .settings import Synthesis
from .sources import SOURCES, Ingredients, Source

#: Raised by whatever changes what the same settings make.
FORMAT = 1


def synthesize(
    model: Model | str,
    data: Dataset | str,
    how: Synthesis | str = "deepinversion",
    advance: Callable[[float], None] = lambda share: None,
) -> Dataset:
    """Return ``data`` with made images as its splits train and calibration; the others stay, to judge by.

    ``how``: a source's name, with settings behind it where wanted, such as ``"gan,steps=500"``. ``advance`` is told
    the share that is done, and may raise.

    Raises:
        WorkbenchError: the source can't serve this model or these data, with what does instead.
    """
    model = load_model(model)
    data = load_dataset(data).in_order(model.classes)
    settings = Synthesis.parse(how) if isinstance(how, str) else how
    made = made_split(model, data, settings, advance)
    splits = {**data.splits, "train": made, "calibration": calibration_of(made)}
    source = SOURCES[settings.source]
    real = "" if source.looks else " No real image was looked at to make them; validation and test only judge."
    note = f"Train and calibration are {len(made):,} images {source.summary} ({settings.source}, '{model.name}').{real}"
    return replace(data, name=f"{data.name}+{settings}", splits=splits, notes=(*data.notes, note), learned=made.hash)


def synthesizing(model: Model, data: Dataset, how: Synthesis) -> Job[Dataset]:
    """Start making images in the background and return the Job; its progress is the share of them."""

    def work(job: Job[Dataset]) -> Dataset:
        stand_back(5)

        def advance(share: float) -> None:
            job.check()
            job.advance(share)

        return synthesize(model, data, how, advance)

    check_source(model, data, how)
    return Job("synthesis", work)


def made_split(
    model: Model, data: Dataset, how: Synthesis, advance: Callable[[float], None] = lambda share: None
) -> Split:
    """Return the made images as a split to train on, from the file where there is one."""
    source = check_source(model, data, how)
    kept = Artefacts(user_folder() / "synthetic")
    key = _key(model, data, how, source)
    found = kept.find(key)
    if found is None:
        images, labels = source.make(_ingredients(model, data, how, source, advance))
        found = Artefact({"images": _like(images, data), "labels": labels}, {"how": str(how)})
        kept.keep(key, found)
    return Split("train", found.tensors["images"], found.tensors["labels"])


def check_source(model: Model, data: Dataset, how: Synthesis) -> Source:
    """Return the source; raises ``WorkbenchError`` where it can't serve this model or these data."""
    source = SOURCES[how.source]
    if data.task != "classification":
        raise WorkbenchError(f"Images are made for classes, and '{data.name}' is a task of {data.task}.")
    if source.looks and ("train" not in data.splits or not len(data["train"])):
        raise WorkbenchError(
            f"'{how.source}' learns from training images, which '{data.name}' has not: take 'deepinversion', or "
            "'impressions' for a model without BatchNorm."
        )
    if how.source == "class_gan" and not data["train"].labelled:
        raise WorkbenchError(
            f"'class_gan' needs labels, which the training images of '{data.name}' have not: take 'gan', whose images "
            "the model labels."
        )
    if how.real is not None and not source.looks:
        raise WorkbenchError(f"'{how.source}' looks at no real image: leave out real={how.real}.")
    if how.source == "deepinversion":
        from .inversion import check_statistics

        check_statistics(model.module, model.name)
    return source


def _ingredients(
    model: Model, data: Dataset, how: Synthesis, source: Source, advance: Callable[[float], None]
) -> Ingredients:
    first = next(iter(data.splits.values())).images
    return Ingredients(
        model.module, model.name, data.image_shape, _classes(model, data), model.normalization or data.normalization,
        first.dtype == torch.uint8, how.images or source.images, how.steps or source.steps, how.seed,
        _real(data, how, source), advance,
    )  # fmt: skip


def _real(data: Dataset, how: Synthesis, source: Source) -> Split:
    """Return the training images that may be looked at."""
    if not source.looks:
        shape = data.image_shape
        return Split("none", torch.zeros(0, *shape), torch.zeros(0, dtype=torch.int64))
    train = data["train"]
    if how.real is None or how.real >= len(train):
        return train
    import numpy as np

    chosen, _ = stratified(train.labels.numpy(), [how.real / len(train)], how.seed, np.arange(len(train)))
    return train.take(chosen)


def _like(images: Tensor, data: Dataset) -> Tensor:
    """Return ``images`` as the data's are kept: as uint8 from 0 to 255, or as floats."""
    first = next(iter(data.splits.values())).images
    return images.mul(255).round_().clamp_(0, 255).to(torch.uint8) if first.dtype == torch.uint8 else images.float()


@torch.inference_mode()
def _classes(model: Model, data: Dataset) -> int:
    """Return how many classes the model tells apart; the data may not know."""
    return int(model.module.eval()(torch.zeros(1, *data.image_shape)).shape[-1])


def _key(model: Model, data: Dataset, how: Synthesis, source: Source) -> str:
    first = next(iter(data.splits.values())).images
    parts = [
        FORMAT, how.model_dump(mode="json"), source.images, source.steps, model_hash(model.module),
        str(model.normalization or data.normalization), data.image_shape, _classes(model, data), str(first.dtype),
        data["train"].hash if source.looks else "",
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
