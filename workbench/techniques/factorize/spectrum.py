"""The singular values of a layer's weight, plain or as its inputs weigh it, and the two factors of any rank."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workbench.run.one_thread import one_blas_thread

Matrix = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Spectrum:
    """``matrix = left @ diag(values) @ right``, the values descending.

    ``left`` (rows, k), ``values`` (k,), ``right`` (k, columns).
    """

    left: Matrix
    values: NDArray[np.float64]
    right: Matrix

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return self.left.nbytes + self.values.nbytes + self.right.nbytes

    def factors(self, rank: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return ``(rows, rank)`` and ``(rank, columns)``, the singular values split evenly between them."""
        root = np.sqrt(self.values[:rank])
        return (
            np.ascontiguousarray(self.left[:, :rank] * root, np.float32),
            np.ascontiguousarray(self.right[:rank] * root[:, None], np.float32),
        )

    def rank_for_energy(self, share: float) -> int:
        """Return the smallest rank that keeps this share of the sum of squares; 1 where all is zero."""
        energy = np.cumsum(self.values**2)
        if energy[-1] == 0:
            return 1
        # what rounding adds must not ask for one more
        return min(len(energy), int(np.searchsorted(energy, share * energy[-1] * (1 - 1e-12))) + 1)


def spectrum_of(matrix: NDArray[np.float32], gram: Matrix | None = None) -> Spectrum:
    """Return the singular value decomposition of ``matrix`` (outputs, inputs).

    With ``gram``, the inputs' second moment (inputs, inputs), the factors come nearest in what the layer
    gives rather than in its weights: the matrix is decomposed times the root of ``gram``, and the right
    factor brought back by its inverse.
    """
    if gram is None:
        return Spectrum(*_svd(matrix.astype(np.float64)))
    eigenvalues, vectors = np.linalg.eigh(gram)
    # directions in which nothing enters still get a little weight, so that the root can be undone
    roots = np.sqrt(np.maximum(eigenvalues, max(eigenvalues[-1], 1e-30) * 1e-6))
    left, values, right = _svd((matrix @ vectors) * roots)
    return Spectrum(left, values, (right / roots) @ vectors.T)


def _svd(matrix: Matrix) -> tuple[Matrix, NDArray[np.float64], Matrix]:
    with one_blas_thread(matrix.size):
        left, values, right = np.linalg.svd(matrix, full_matrices=False)
    return left, values, right
