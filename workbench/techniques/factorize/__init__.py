"""Low-rank factorization: a layer becomes a chain of smaller ones."""

from __future__ import annotations

from .technique import FACTORIZE, FactorizeSettings

__all__ = ["FACTORIZE", "FactorizeSettings"]
