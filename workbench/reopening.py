"""A compressed model read back from its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workbench.compressed import build_module
from workbench.encodings import Archive, ArchiveError, load_archive
from workbench.errors import WorkbenchError
from workbench.models.edits import edit_from_json
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A compressed model read back from a file: the module to run, and what the file says of itself."""

    module: nn.Module
    archive: Archive
    recipe: Recipe

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes."""
        return self.archive.nbytes


def load_compressed(path: str | Path, model: nn.Module | Model | str | None = None) -> LoadedModel:
    """Return the model saved at ``path``; architectures outside the zoo are given by ``model``.

    Raises ``WorkbenchError`` for a file that is damaged, newer, or belongs to another architecture.
    """
    archive = load_archive(Path(path))
    base = _architecture(archive.model, model, Path(path).name)
    if not isinstance(archive.recipe, list | None):
        raise ArchiveError(f"'{Path(path).name}' is damaged: its recipe is no list of steps.")
    edits = [edit_from_json(edit) for edit in archive.edits]
    try:
        decoded = {name: torch.from_numpy(array) for name, array in archive.decode().items()}
        module = build_module(base, edits, decoded)
    except WorkbenchError:
        raise
    except (RuntimeError, AttributeError, TypeError, ValueError, ArithmeticError, LookupError, AssertionError,
            MemoryError) as error:  # fmt: skip
        said = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        raise WorkbenchError(
            f"'{Path(path).name}' does not fit the architecture {type(base).__name__}: {said}"
        ) from error
    return LoadedModel(module, archive, Recipe.parse(archive.recipe or []))


def _architecture(reference: Mapping[str, Any], given: Any, file: str) -> nn.Module:
    if given is not None:
        return load_model(given).module
    if reference.get("origin") == "zoo":
        return load_model(str(reference.get("name"))).module
    raise WorkbenchError(
        f"'{file}' holds the weights of {reference.get('architecture', 'a model')} but not its code: "
        "give the architecture with model=."
    )
