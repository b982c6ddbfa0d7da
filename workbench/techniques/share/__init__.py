"""Weight sharing: many weights, few values."""

from __future__ import annotations

from .technique import SHARE

__all__ = ["SHARE"]
