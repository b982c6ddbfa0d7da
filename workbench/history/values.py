"""What a history keeps, as values."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from types import MappingProxyType

from workbench.errors import WorkbenchError

#: What may change a figure by another version: name → the distribution it comes in.
LIBRARIES = {"workbench": "compression-workbench", "torch": "torch", "onnxruntime": "onnxruntime"}


#: What ends the ``data_hash`` of images without labels.
WITHOUT_LABELS = ":unlabelled"


class HistoryError(WorkbenchError):
    """A history file that can't be opened or written, or something asked for that it does not hold."""


@dataclass(frozen=True)
class Key:
    """What a measured figure belongs to, beside the recipe."""

    model: str
    model_hash: str
    data: str
    data_hash: str
    split: str
    runtime: str

    @property
    def identity(self) -> tuple[str, str, str, str]:
        """What tells subjects apart: names may change, hashes, split and runtime may not."""
        return self.model_hash, self.data_hash, self.split, self.runtime

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return not self.data_hash.endswith(WITHOUT_LABELS)


@dataclass(frozen=True)
class Record:
    """One measured setting. Accuracy, top-5 and agreement are shares, loss is mean cross-entropy.

    Of images without labels (``Key.labelled``) there is no accuracy, top-5 or loss, only the ``agreement``: the share
    answered like the dense model.

    ``parent`` is the id of the setting it came from, ``time`` seconds since 1970, ``versions`` what measured
    it (empty where that was not noted yet). A person may give it a ``name``, star it, and delete it;
    ``deleted`` is when, until it is restored.
    """

    recipe_hash: str
    recipe: str
    n: int
    accuracy: float | None
    top5: float | None
    loss: float | None
    agreement: float
    bytes: int
    dense_fp32_bytes: int
    runtime_bytes: int | None
    entropy_bytes: int | None
    latency_ms: float | None
    measured_ms: float | None = None
    id: int | None = None
    parent: int | None = None
    time: float = 0.0
    versions: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    starred: bool = False
    deleted: float | None = None

    @property
    def score(self) -> float:
        """What settings are judged by: the accuracy, or the agreement where the images have no labels."""
        return self.agreement if self.accuracy is None else self.accuracy

    @property
    def judged(self) -> str:
        """What ``score`` is: ``accuracy``, or ``agreement``."""
        return "agreement" if self.accuracy is None else "accuracy"


@dataclass(frozen=True)
class Finding:
    """What longer work has learnt about a model: ``payload`` is its own business, as bytes.

    ``kind`` names the work (``sensitivity``), ``question`` what it was asked, as text that is the same
    whenever the same is asked. ``done`` is false while there is more to learn.
    """

    kind: str
    question: str
    payload: bytes
    done: bool
    time: float
    versions: Mapping[str, str]


@functools.cache
def present_versions() -> Mapping[str, str]:
    """Return library → version of what measures now; the libraries are not imported for it."""
    found = {}
    for name, distribution in LIBRARIES.items():
        with contextlib.suppress(metadata.PackageNotFoundError):  # PyTorch alone runs everything, only slower
            found[name] = metadata.version(distribution)
    return MappingProxyType(found)


@functools.lru_cache(maxsize=256)
def read_versions(text: str) -> Mapping[str, str]:
    """Return the versions written as JSON ``text``; few differ, so many records share one."""
    return MappingProxyType(json.loads(text))
