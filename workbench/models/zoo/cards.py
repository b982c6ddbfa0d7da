"""The zoo's checkpoints on disk: a card (JSON) and weights (safetensors) that must agree."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_bytes
from torch import Tensor

from ...errors import WorkbenchError
from . import CHECKPOINTS


def read_card(name: str, folder: Path = CHECKPOINTS) -> dict[str, Any]:
    """Return what the training script wrote about ``name``: accuracy, data, recipe, SHA-256.

    Raises ``WorkbenchError`` where the card is missing or is not one.
    """
    path = folder / f"{name}.json"
    try:
        card = json.loads(path.read_text())
    except FileNotFoundError:
        raise WorkbenchError(_missing(name, path)) from None
    except ValueError:
        card = None
    if not isinstance(card, dict) or not isinstance(card.get("sha256"), str):
        raise WorkbenchError(f"The zoo's card {path} is damaged: restore it, or {_retrain(name)}.")
    return card


def read_weights(name: str, sha256: str, folder: Path = CHECKPOINTS) -> dict[str, Tensor]:
    """Return the state dict of ``name``; raises ``WorkbenchError`` unless the file has that SHA-256."""
    path = folder / f"{name}.safetensors"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise WorkbenchError(_missing(name, path)) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise WorkbenchError(
            f"The zoo's checkpoint {path} is damaged: its SHA-256 is not the one on its card; "
            f"restore it, or {_retrain(name)}."
        )
    try:
        return load_bytes(data)
    except SafetensorError as error:
        raise WorkbenchError(f"The zoo's checkpoint {path} cannot be read: {error}.") from error


def _missing(name: str, path: Path) -> str:
    return f"The zoo's model '{name}' has no {path.name} in {path.parent}: restore it, or {_retrain(name)}."


def _retrain(name: str) -> str:
    return f"train it anew with `python -m workbench.train.zoo {name}`"
