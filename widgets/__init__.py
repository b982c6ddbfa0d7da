"""The views of the workbench: small widgets over one ``Session``, alone or together.

Every view takes a ``Session`` and draws its Snapshots; ``Workbench`` lays them out as the app does.
Names are resolved when first used, so that serving the app does not load the widget libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .controls import ControlsView
    from .examples import ExamplesView
    from .export import ExportView
    from .layers import LayersView
    from .picker import PickerView
    from .recipe import RecipeView
    from .scoreboard import ScoreboardView
    from .sensitivity import SensitivityView
    from .tradeoff import TradeoffView
    from .weights import WeightView
    from .workbench import Workbench

_HOMES = {
    "ControlsView": "controls",
    "ExamplesView": "examples",
    "ExportView": "export",
    "LayersView": "layers",
    "PickerView": "picker",
    "RecipeView": "recipe",
    "ScoreboardView": "scoreboard",
    "SensitivityView": "sensitivity",
    "TradeoffView": "tradeoff",
    "WeightView": "weights",
    "Workbench": "workbench",
}

__all__ = [
    "ControlsView", "ExamplesView", "ExportView", "LayersView", "PickerView", "RecipeView", "ScoreboardView",
    "SensitivityView", "TradeoffView", "WeightView", "Workbench",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
