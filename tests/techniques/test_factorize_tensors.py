"""Decompositions of convolution weights: exact at full rank, the known error below, counted right."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from tensorly.decomposition import partial_tucker, tensor_train
from tensorly.tenalg import multi_mode_dot

import workbench as wb
from workbench.models.factors import Scheme, compose
from workbench.models.load import load_model
from workbench.techniques.factorize.tensors import decompose, full_ranks, ranks_for, weights_of, widths_of

SHAPES = [(8, 6, 3, 3), (5, 12, 3), (6, 4, 2, 3, 2)]
SCHEMES = ["tucker2", "tucker", "tt"]


def product(scheme: str, weight: np.ndarray, ranks: tuple[int, ...]) -> np.ndarray:
    return compose(scheme, [torch.from_numpy(link) for link in decompose(scheme, weight, ranks)]).numpy()


@pytest.fixture(params=SHAPES, ids=str)
def weight(request: pytest.FixtureRequest) -> np.ndarray:
    return np.random.default_rng(0).normal(size=request.param).astype(np.float32)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_at_full_rank_nothing_is_lost(weight: np.ndarray, scheme: str) -> None:
    np.testing.assert_allclose(product(scheme, weight, full_ranks(scheme, weight.shape)), weight, atol=1e-5)


@pytest.mark.parametrize("scheme", ["cp", "tucker2", "tucker", "tt"])
def test_a_weight_of_that_rank_is_found_again(scheme: str) -> None:
    rng = np.random.default_rng(1)
    made = sum(np.einsum("a,b,c,d->abcd", *(rng.normal(size=size) for size in (8, 6, 3, 3))) for _ in range(2)).astype(
        np.float32
    )
    ranks = (2,) * len(full_ranks(scheme, made.shape))
    np.testing.assert_allclose(product(scheme, made, ranks), made, atol=2e-3 * np.abs(made).max())


@pytest.mark.parametrize("scheme", ["cp", "tucker2", "tucker", "tt"])
@pytest.mark.parametrize("value", [0.0, 0.25, 1e-20])
def test_weights_that_are_all_equal_are_kept(scheme: str, value: float) -> None:
    weight = np.full((8, 6, 3, 3), value, np.float32)
    ranks = ranks_for(scheme, weight.shape, weight.size // 2, 1)
    np.testing.assert_allclose(product(scheme, weight, ranks), weight, rtol=1e-4)


def test_no_tucker2_by_singular_vectors_of_the_unfoldings_alone_is_better(weight: np.ndarray) -> None:
    unfolded = (np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1) for axis in (0, 1))
    outputs, inputs = (np.linalg.svd(matrix)[0][:, :3] for matrix in unfolded)
    core = np.einsum("oi...,op,iq->pq...", weight, outputs, inputs)
    hosvd = np.einsum("pq...,op,iq->oi...", core, outputs, inputs)
    ours = product("tucker2", weight, (3, 3))
    assert np.linalg.norm(weight - ours) <= np.linalg.norm(weight - hosvd) * (1 + 1e-6)


@pytest.mark.parametrize("scheme", ["tucker2", "tucker"])
def test_each_axis_is_fitted_once_to_what_the_others_keep(scheme: Scheme) -> None:
    weight = np.random.default_rng(0).normal(size=(8, 6, 3, 3)).astype(np.float32)
    ranks = (4, 3) if scheme == "tucker2" else (4, 3, 2, 2)

    def leading(tensor: np.ndarray, axis: int) -> np.ndarray:
        return np.linalg.svd(np.moveaxis(tensor, axis, 0).reshape(tensor.shape[axis], -1))[0][:, : ranks[axis]]

    axes = list(range(len(ranks)))
    factors = [leading(weight, axis) for axis in axes]
    for axis in axes:
        others = multi_mode_dot(weight.astype(np.float64), factors, modes=axes, skip=axis, transpose=True)
        factors[axis] = leading(others, axis)
    core = multi_mode_dot(weight.astype(np.float64), factors, modes=axes, transpose=True)
    np.testing.assert_allclose(product(scheme, weight, ranks), multi_mode_dot(core, factors, modes=axes), atol=1e-5)


@pytest.mark.parametrize("scheme", ["tucker2", "tucker", "tt"])
@pytest.mark.parametrize("size", [0.2, 0.5])
def test_the_error_is_near_that_of_tensorlys_iterations(scheme: Scheme, size: float) -> None:
    weight = load_model("resnet20").module.get_parameter("stage3.0.conv1.weight").detach().numpy()
    ranks = ranks_for(scheme, weight.shape, int(size * weight.size), 1)
    if scheme == "tt":
        cores = tensor_train(np.moveaxis(weight, 0, -1).astype(np.float64), rank=[1, *ranks, 1])
        theirs = np.moveaxis(cores.to_tensor(), -1, 0)
    else:
        axes = [0, 1] if scheme == "tucker2" else [0, 1, 2, 3]
        (core, factors), _ = partial_tucker(weight.astype(np.float64), list(ranks), modes=axes)
        theirs = multi_mode_dot(core, factors, modes=axes)
    lost, least = (np.linalg.norm(weight - found) for found in (product(scheme, weight, ranks), theirs))
    assert lost <= (1.05 if scheme == "tt" else 1.02) * least


def test_what_takes_seconds_does_not_say_that_it_follows_a_slider() -> None:
    costs = {scheme: wb.Recipe.parse(f"- factorize: {{scheme: {scheme}}}").cost for scheme in (*SCHEMES, "svd", "cp")}
    assert costs == {"svd": "live", "tucker2": "live", "tucker": "live", "tt": "live", "cp": "fitted"}


def test_a_train_cut_at_one_bond_is_the_singular_value_decomposition_there(weight: np.ndarray) -> None:
    full = full_ranks("tt", weight.shape)
    matrix = np.moveaxis(weight, 0, -1).reshape(weight.shape[1], -1)
    values = np.linalg.svd(matrix, compute_uv=False)
    error = np.linalg.norm(product("tt", weight, (2, *full[1:])) - weight)
    assert error == pytest.approx(np.sqrt((values[2:] ** 2).sum()), rel=1e-4)


@pytest.mark.parametrize("scheme", ["cp", "tucker2", "tucker", "tt"])
def test_links_have_the_weights_that_were_counted(weight: np.ndarray, scheme: str) -> None:
    for size in (0.2, 0.5, 0.8):
        ranks = ranks_for(scheme, weight.shape, int(size * weight.size), 1)
        links = decompose(scheme, weight, ranks)
        assert sum(link.size for link in links) == weights_of(scheme, ranks, weight.shape)
        widths = (weight.shape[1], *widths_of(scheme, ranks, weight.shape[2:]), weight.shape[0])
        assert [len(link) for link in links] == list(widths[1:])
        for (before, _), link in zip(itertools.pairwise(widths), links, strict=True):
            assert link.shape[1] in (before, 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("scheme: tt, energy: 0.9", "energy belongs to scheme svd"),
        ("scheme: cp, weighted: true", "weighted belongs to scheme svd"),
        ("scheme: parafac", "scheme"),
    ],
)
def test_settings_of_another_scheme_are_refused(settings: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        wb.Recipe.parse(f"- factorize: {{{settings}}}")


def test_a_rank_above_the_full_one_is_refused() -> None:
    with pytest.raises(wb.WorkbenchError, match="Rank 900 is above the full rank"):
        wb.compress("lenet5", "- factorize: {scheme: tucker2, rank: 900, layers: [conv2]}")


def test_what_has_no_kernel_to_decompose_is_left_and_named() -> None:
    found = wb.compress("lenet5", "- factorize: {scheme: tucker2, size: 0.5}")
    assert any("fc1 (tucker2 is for convolutions)" in note for note in found.notes)
    assert {edit.layer for edit in found.edits} == {"conv1", "conv2"}
