"""Steps that train: each looks up what a job learned for it (``workbench.train``)."""

from __future__ import annotations

from .base import MissingTraining, TrainingSettings
from .distill import DISTILL, DistillSettings
from .finetune import FINETUNE, FinetuneSettings
from .reconstruct import RECONSTRUCT, ReconstructSettings

__all__ = [
    "DISTILL", "FINETUNE", "RECONSTRUCT", "DistillSettings", "FinetuneSettings", "MissingTraining",
    "ReconstructSettings", "TrainingSettings",
]  # fmt: skip
