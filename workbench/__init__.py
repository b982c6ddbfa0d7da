"""Compression Workbench: see at once what pruning and quantizing do to a neural network.

The public names are listed here and loaded when they are first used, so that ``import workbench``
stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.analyze.layers import layer_table
    from workbench.compressed import CompressedModel
    from workbench.compression import compress
    from workbench.data.dataset import Dataset, Normalization, Split
    from workbench.data.load import load_dataset
    from workbench.errors import WorkbenchError
    from workbench.history import History
    from workbench.measure.estimate import Estimate, Latency, Size
    from workbench.models.load import load_model
    from workbench.models.model import Model
    from workbench.recipe import Recipe, Step
    from workbench.reopening import load_compressed
    from workbench.session import Session
    from workbench.snapshot import Snapshot

_HOMES = {
    "CompressedModel": "compressed",
    "Dataset": "data.dataset",
    "Estimate": "measure.estimate",
    "History": "history",
    "Latency": "measure.estimate",
    "Model": "models.model",
    "Normalization": "data.dataset",
    "Recipe": "recipe",
    "Session": "session",
    "Size": "measure.estimate",
    "Snapshot": "snapshot",
    "Split": "data.dataset",
    "Step": "recipe",
    "WorkbenchError": "errors",
    "compress": "compression",
    "layer_table": "analyze.layers",
    "load_compressed": "reopening",
    "load_dataset": "data.load",
    "load_model": "models.load",
}

__version__ = "0.1.0"
__all__ = [
    "CompressedModel", "Dataset", "Estimate", "History", "Latency", "Model", "Normalization", "Recipe",
    "Session", "Size", "Snapshot", "Split", "Step", "WorkbenchError", "compress", "layer_table",
    "load_compressed", "load_dataset", "load_model",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'workbench' has no attribute '{name}'")
    value = getattr(import_module(f"workbench.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
