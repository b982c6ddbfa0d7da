"""The views of the workbench: small widgets over one ``Session``, alone or together.

Every view takes a ``Session`` and draws its Snapshots; ``Workbench`` lays them out as the app does.
Names are resolved when first used, so that serving the app does not load the widget libraries.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .allocation.view import AllocationView
    from .anatomy.view import AnatomyView
    from .behaviour.view import BehaviourView
    from .controls.view import ControlsView
    from .devices.view import DevicesView
    from .examples.view import ExamplesView
    from .export.view import ExportView
    from .fusion.view import FusionView
    from .layers.view import LayersView
    from .monitor.view import MonitorView
    from .page.workbench import Workbench
    from .picker.view import PickerView
    from .pipeline.view import PipelineView
    from .recipe.view import RecipeView
    from .scoreboard.view import ScoreboardView
    from .sensitivity.view import SensitivityView
    from .split.view import SplitView
    from .tradeoff.view import TradeoffView
    from .train.view import TrainView
    from .weights.view import WeightView

_HOMES = {
    "AllocationView": "allocation.view",
    "AnatomyView": "anatomy.view",
    "BehaviourView": "behaviour.view",
    "ControlsView": "controls.view",
    "DevicesView": "devices.view",
    "ExamplesView": "examples.view",
    "ExportView": "export.view",
    "FusionView": "fusion.view",
    "LayersView": "layers.view",
    "MonitorView": "monitor.view",
    "PickerView": "picker.view",
    "PipelineView": "pipeline.view",
    "RecipeView": "recipe.view",
    "ScoreboardView": "scoreboard.view",
    "SensitivityView": "sensitivity.view",
    "SplitView": "split.view",
    "TradeoffView": "tradeoff.view",
    "TrainView": "train.view",
    "WeightView": "weights.view",
    "Workbench": "page.workbench",
}

__all__ = [
    "AllocationView", "AnatomyView", "BehaviourView", "ControlsView", "DevicesView", "ExamplesView", "ExportView",
    "FusionView", "LayersView", "MonitorView", "PickerView", "PipelineView", "RecipeView", "ScoreboardView",
    "SensitivityView", "SplitView", "TradeoffView", "TrainView", "WeightView", "Workbench",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
