"""The singular values of a layer's weight, before and after a recipe: what a low rank keeps, and what was cut.

A convolution's kernel is read as the matrix ``(outputs, inputs · kernel)``, as SVD factorization reads it
(Denton et al. 2014, "Exploiting Linear Structure Within Convolutional Networks").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.errors import WorkbenchError

#: The shorter side of the largest matrix that is decomposed: about two seconds on one core.
MAX_SIDE = 2048


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values in falling order, ``before`` and ``after`` ``(n,)`` float32.

    ``n`` is the shorter side of the matrix before; removed channels leave zeros at the end of ``after``.
    ``rank`` is the numerical rank of the weight after.
    """

    layer: str
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    rank: int

    @property
    def full_rank(self) -> int:
        """The rank that the weight can have."""
        return len(self.before)


def singular_values(weight: Tensor) -> NDArray[np.float32]:
    """Return the singular values of ``weight`` ``(rows, ...)``, read as ``(rows, the rest)``, falling.

    They are the roots of the eigenvalues of the smaller Gram matrix, in double precision: exact to about
    1e-8 of the largest, which is more than float32 weights carry. Raises ``WorkbenchError`` where a weight
    is not finite, or the shorter side exceeds ``MAX_SIDE``.
    """
    matrix = weight.detach().flatten(1)
    rows, columns = matrix.shape
    if min(rows, columns) > MAX_SIDE:
        raise WorkbenchError(
            f"A matrix of {rows:,} × {columns:,} weights takes too long to decompose for a live view; "
            f"spectra are drawn up to a shorter side of {MAX_SIDE:,}."
        )
    if not bool(matrix.isfinite().all()):
        raise WorkbenchError("The layer has weights that are not finite, so it has no singular values.")
    tall = (matrix if rows <= columns else matrix.T).double()
    values = torch.linalg.eigvalsh(tall @ tall.T).clamp_(min=0).sqrt().flip(0)
    return np.asarray(values.numpy(), np.float32)


def numerical_rank(values: NDArray[np.float32], columns: int) -> int:
    """Return how many singular values stand above float32 rounding, by the usual bound.

    ``columns`` is the longer side of the matrix; the bound is ``columns · eps · values[0]``.
    """
    bound = columns * np.finfo(np.float32).eps * values.max(initial=0)
    return int(np.count_nonzero(values > bound))


def energy_kept(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the share of the squared Frobenius norm in the first 1, 2, ..., n directions; zeros for a zero weight."""
    summed = np.cumsum(np.square(values, dtype=np.float64))
    return np.asarray(summed / summed[-1] if len(summed) and summed[-1] > 0 else np.zeros_like(summed))


def compare_spectra(layer: str, before: NDArray[np.float32], after: NDArray[np.float32], longer_side: int) -> Spectrum:
    """Return the Spectrum of a layer from its singular values; ``longer_side`` is that of the matrix before."""
    padded = np.zeros_like(before)
    padded[: len(after)] = after[: len(before)]
    return Spectrum(layer, before, padded, numerical_rank(padded, longer_side))
