"""From a model and a recipe to files in a folder."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

from workbench import int8
from workbench.compressed import CompressedModel
from workbench.compression import compress_subject, context_for
from workbench.data.dataset import Dataset
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.session import Session
from workbench.subject import Subject

from .format import Format, FormatError, Source

#: Images by which formats calibrate what the recipe says nothing of.
CALIBRATION = int8.IMAGES


def prepare(model: Model, data: Dataset, recipe: Recipe) -> Source:
    """Return what the formats write: ``model`` under ``recipe``, with calibration images of ``data``."""
    if model.input_shape is not None:
        data.require_image_shape(model.input_shape, f"Model '{model.name}'")
    subject = Subject.of(model, data.image_shape)
    compressed = compress_subject(subject, recipe, context_for(model, data))
    return source_of(compressed, subject, data)


def source_of(compressed: CompressedModel, subject: Subject, data: Dataset) -> Source:
    """Return what the formats write of a compressed model."""
    normalize = subject.model.normalization or data.normalization
    context = context_for(subject.model, data)
    return Source(
        stem=stem_of(subject.model.name, compressed.recipe),
        compressed=compressed,
        subject=subject,
        calibration=None if context.calibration is None else normalize(context.mixed_images(CALIBRATION)),
        normalization=normalize,
    )


def source_for(session: Session, recipe: Recipe) -> Source:
    """Return what the formats write of a session's model under ``recipe``, whichever is set."""
    source = source_of(session.compress(recipe), session.subject, session.data)
    return replace(source, exported=session.graph(recipe))


def stem_of(model: str, recipe: Recipe) -> str:
    """Return ``resnet20-0123abcd``: the model's name and the first 8 digits of the recipe's hash."""
    stem = re.sub(r"[^\w.-]+", "-", re.sub(r"\.(safetensors|pt|pth|onnx|wbz)$", "", model)).strip("-.") or "model"
    return f"{stem}-{recipe.hash[:8]}"


def ready_folder(given: str | Path) -> Path:
    """Return the folder, made where there is none; raises ``FormatError`` where nothing can be written into it."""
    path = Path(given).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FormatError(
            f"Nothing can be written into '{path}': {reason}; choose another folder with --out."
        ) from error
    return path


def write(chosen: Format, source: Source, folder: Path) -> tuple[Path, ...]:
    """Write ``source`` in the format ``chosen`` and return the files, the one to open first.

    They are written beside and moved into place, so that what is there is whole. Raises ``FormatError``.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as draft:
            written = chosen.write(source, Path(draft))
            return tuple(path.replace(folder / path.name) for path in written)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FormatError(f"The files could not be written into '{folder}': {reason}.") from error
