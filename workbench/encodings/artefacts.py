"""What training made, kept under the hash of what it was made from.

A trained step can't be replayed from its recipe in an instant, so a job leaves what it learned in a file of
tensors here, and compressing looks it up. The files are safetensors: reading one runs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from workbench.encodings.files import write_atomically
from workbench.errors import WorkbenchError


@dataclass(frozen=True, eq=False)
class Artefact:
    """Learned tensors by name, and plain data about how they came about."""

    tensors: Mapping[str, Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        tensors = {name: tensor.detach().contiguous() for name, tensor in self.tensors.items()}
        return save(tensors, {"about": json.dumps(dict(self.about))})

    def save(self, path: Path) -> Path:
        """Write the file, whole or not at all. Raises ``WorkbenchError`` where it can't be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return write_atomically(path, self.to_bytes())
        except OSError as error:
            raise WorkbenchError(
                f"What was learned could not be saved to '{path}' ({error.strerror or error}); "
                "free some space, or set WORKBENCH_HOME to another folder."
            ) from error

    @classmethod
    def load(cls, path: Path) -> Artefact:
        """Read a file. Raises ``WorkbenchError`` where it is not a whole one."""
        try:
            with safe_open(path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                about = json.loads((file.metadata() or {}).get("about", "{}"))
        except (SafetensorError, OSError, ValueError) as error:
            raise WorkbenchError(
                f"The training result '{path}' cannot be read ({str(error).splitlines()[0]}); "
                "remove it and train again."
            ) from error
        return cls(tensors, about)


@dataclass(frozen=True)
class Artefacts:
    """A folder of artefacts by key, a hash."""

    folder: Path

    def path(self, key: str) -> Path:
        """Return where the artefact of ``key`` is kept."""
        return self.folder / f"{key}.safetensors"

    def find(self, key: str) -> Artefact | None:
        """Return what was learned under ``key``, or None. Raises ``WorkbenchError`` for a damaged file."""
        path = self.path(key)
        return Artefact.load(path) if path.exists() else None

    def keep(self, key: str, artefact: Artefact) -> None:
        """Keep what was learned under ``key``, in the place of what was there."""
        artefact.save(self.path(key))
