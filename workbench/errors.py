"""The one base of the errors a person can cause."""

from __future__ import annotations


class WorkbenchError(ValueError):
    """What was wrong with which input, and what to do, in one sentence."""
