"""Singular values against NumPy's, ranks and energy against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.errors import WorkbenchError
from workbench.measure.spectrum import MAX_SIDE, compare_spectra, energy_kept, numerical_rank, singular_values


@pytest.mark.parametrize(
    "shape", [(16, 8, 3, 3), (64, 10), (10, 64), (1, 5), (5, 1), (7, 7), (6, 4, 5), (4, 2, 3, 3, 3)]
)
def test_singular_values_are_those_of_the_matrix_of_outputs_and_the_rest(shape: tuple[int, ...]) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    expected = np.linalg.svd(weight.flatten(1).double().numpy(), compute_uv=False)
    found = singular_values(weight)
    assert found == pytest.approx(expected, abs=1e-6 * expected[0])
    assert np.all(np.diff(found) <= 0)


@pytest.mark.parametrize(("rows", "columns", "rank"), [(64, 576, 9), (300, 100, 40), (40, 40, 1), (30, 20, 20)])
def test_the_rank_of_a_product_of_factors_is_theirs_after_rounding_to_float32(
    rows: int, columns: int, rank: int
) -> None:
    torch.manual_seed(1)
    weight = torch.randn(rows, rank) @ torch.randn(rank, columns)
    values = singular_values(weight)
    assert numerical_rank(values, max(rows, columns)) == rank == np.linalg.matrix_rank(weight.numpy())


def test_a_weight_of_zeros_has_rank_zero_and_no_energy() -> None:
    values = singular_values(torch.zeros(4, 6))
    assert values.tolist() == [0] * 4
    assert numerical_rank(values, 6) == 0
    assert energy_kept(values).tolist() == [0] * 4


def test_energy_is_the_share_of_the_squared_norm_that_a_truncated_svd_keeps() -> None:
    torch.manual_seed(2)
    weight = torch.randn(12, 20)
    kept = energy_kept(singular_values(weight))
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    for rank in (1, 5, 12):
        truncated = left[:, :rank] @ torch.diag(values[:rank]) @ right[:rank]
        assert kept[rank - 1] == pytest.approx(float(truncated.norm() ** 2 / weight.norm() ** 2), abs=1e-5)
    assert kept[-1] == pytest.approx(1)


def test_removed_channels_leave_zeros_at_the_end() -> None:
    weight = torch.randn(8, 30, generator=torch.Generator().manual_seed(3))
    spectrum = compare_spectra("fc", singular_values(weight), singular_values(weight[:5]), 30)
    assert spectrum.after[5:].tolist() == [0] * 3
    assert (spectrum.rank, spectrum.full_rank) == (5, 8)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_have_no_spectrum(value: float) -> None:
    with pytest.raises(WorkbenchError, match="not finite"):
        singular_values(torch.full((3, 3), value))


def test_a_matrix_too_large_for_a_live_view_is_refused_in_a_sentence() -> None:
    with pytest.raises(WorkbenchError, match=r"A matrix of 2,049 × 2,049 weights takes too long"):
        singular_values(torch.empty(1).expand(MAX_SIDE + 1, MAX_SIDE + 1))
