"""Images that nobody took, for calibration and distillation where the training data is missing or scarce."""

from .making import check_source, made_split, synthesize, synthesizing
from .settings import Synthesis
from .sources import SOURCES

__all__ = ["SOURCES", "Synthesis", "check_source", "made_split", "synthesize", "synthesizing"]
