"""Serving the app: Voila with its rough edges taken off, on this machine unless told otherwise."""

from __future__ import annotations

from .app import ServingError, serve

__all__ = ["ServingError", "serve"]
