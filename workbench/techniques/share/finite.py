"""What no shared value can stand for."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.errors import WorkbenchError


def not_finite(weights: Sequence[str]) -> WorkbenchError:
    """Return the error that tells of NaN or infinite ones among ``weights``."""
    return WorkbenchError(
        f"Among the weights of {', '.join(weights[:3])} are NaN or infinite ones, which no codebook holds: "
        "leave them out by layers."
    )
