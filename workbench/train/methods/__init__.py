"""The methods of the trained techniques, by the technique's name; a new one is one file here and one entry below."""

from __future__ import annotations

from typing import Any

from ..method import Method
from .distill import Distill
from .reconstruct import Reconstruct

METHODS: dict[str, type[Method[Any]]] = {
    "reconstruct": Reconstruct,
    "finetune": Method,
    "distill": Distill,
}
