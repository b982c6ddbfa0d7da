"""Serving the app: Voila with its rough edges taken off, on this machine unless told otherwise."""

from __future__ import annotations

from .app import Options, ServingError, serve

__all__ = ["Options", "ServingError", "serve"]
