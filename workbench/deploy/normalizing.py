"""What was done to the images that a file's model takes, written into the file for whoever serves it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from workbench.data.dataset import Normalization
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from onnx import ModelProto

#: The entries of a file's metadata; each is a JSON list with a number a channel, for pixels scaled to 0..1.
MEAN, STD = "workbench.mean", "workbench.std"


def entries(normalization: Normalization | None) -> dict[str, str]:
    """Return the metadata that tell of ``normalization``."""
    if normalization is None:
        return {}
    return {MEAN: json.dumps(normalization.mean), STD: json.dumps(normalization.std)}


def note_in(model: ModelProto, normalization: Normalization | None) -> None:
    """Write ``normalization`` into the metadata of an ONNX model."""
    for key, value in entries(normalization).items():
        model.metadata_props.add(key=key, value=value)


def note_bytes(normalization: Normalization | None) -> bytes:
    """Return what ``note_in`` adds to the bytes of a model: put behind them, it gives the bytes of both."""
    from onnx import ModelProto

    alone = ModelProto()
    note_in(alone, normalization)
    return bytes(alone.SerializeToString())


def noted(metadata: Mapping[str, str]) -> Normalization | None:
    """Return what a file's metadata say was done to its images; None where they don't say."""
    try:
        mean, std = (tuple(float(value) for value in json.loads(metadata[key])) for key in (MEAN, STD))
        return Normalization(mean, std)
    except (KeyError, TypeError, ValueError, WorkbenchError):
        return None
