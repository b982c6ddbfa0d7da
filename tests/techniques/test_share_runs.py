"""Vectors of runs are k-means' own, weighing by data errs less in what layers give, and hashing keeps bucket means."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn

import workbench as wb
from workbench.compression import compress
from workbench.encodings.blocks import as_runs, from_runs
from workbench.encodings.hashed import bucket_of
from workbench.errors import WorkbenchError
from workbench.models.zoo import ARCHITECTURES
from workbench.techniques.codebook import SharedBuckets, SharedRuns
from workbench.techniques.vectors import Runs

SHAPE = (1, 28, 28)
PRODUCT = "- share: {method: product, "


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES["lenet5"]().eval()


def plain(vectors: np.ndarray) -> Runs:
    """Return runs (rows, length) that are all used and weighed alike."""
    return Runs(vectors[None], np.ones((1, len(vectors)), bool), np.eye(vectors.shape[1], dtype=np.float32)[None])


@pytest.mark.parametrize(("count", "length"), [(2, 1), (5, 3), (16, 4), (40, 8)])
def test_vectors_equal_scikit_learns(count: int, length: int) -> None:
    vectors = np.random.default_rng(count).standard_normal((2000, length)).astype(np.float32)
    ours = plain(vectors)
    first = ours.start(count, seed=1)
    centres = ours.cluster(first, 500)
    theirs = KMeans(count, init=first, n_init=1, max_iter=500, tol=0, algorithm="lloyd").fit(vectors.astype(np.float64))
    np.testing.assert_allclose(centres, theirs.cluster_centers_, atol=1e-5)
    codes, errors = ours.assign(centres)
    np.testing.assert_array_equal(codes, theirs.labels_)
    assert errors.sum() == pytest.approx(theirs.inertia_, rel=1e-4)


def test_weighed_runs_take_the_entry_and_the_mean_that_err_least() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((3, 40, 2)).astype(np.float32)
    roots = generator.standard_normal((3, 2, 2))
    metrics = (roots @ roots.transpose(0, 2, 1)).astype(np.float32)
    used = generator.random((3, 40)) < 0.8
    runs = Runs(vectors, used, metrics)
    centres = runs.cluster(runs.start(4, 0), 100)
    codes, errors = runs.assign(centres)
    apart = vectors[:, :, None] - centres
    brute = np.einsum("prkd,pde,prke->prk", apart, metrics, apart)[used]
    np.testing.assert_array_equal(codes, brute.argmin(1))
    np.testing.assert_allclose(errors, brute.min(1), atol=1e-4)
    least = errors.sum()
    for moved in generator.normal(0, 1e-2, (50, 4, 2)):  # a mean is where the error is least
        apart = vectors[used] - (centres + moved)[codes]
        assert np.einsum("nd,nde,ne", apart, metrics[np.nonzero(used)[0]], apart) > least - 1e-4


def test_idle_entries_are_put_to_use() -> None:
    vectors = np.random.default_rng(0).standard_normal((500, 2)).astype(np.float32)
    ours = plain(vectors)
    codes, _ = ours.assign(ours.cluster(np.full((8, 2), 50.0) + np.arange(8)[:, None], 100))
    assert len(np.unique(codes)) == 8


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("length", [1, 4, 5, 64])
def test_runs_of_a_tensor_are_put_back(axis: int, length: int) -> None:
    values = np.random.default_rng(0).standard_normal((6, 5, 3, 2)).astype(np.float32)
    runs = as_runs(values, axis, length)
    assert runs.shape[2] == length
    assert np.array_equal(from_runs(runs, values.shape, axis), values)


@pytest.mark.parametrize("half", ["false", "true"])
def test_every_run_is_one_of_the_book(module: nn.Module, half: str, tmp_path: Path) -> None:
    ours = compress(module, f"{PRODUCT}block: 5, bits: 4, half: {half}, iterations: 5}}", image_shape=SHAPE)
    for layer in ours.layers:
        storage = ours.stored[f"{layer.name}.weight"]
        assert isinstance(storage, SharedRuns)
        runs = as_runs(ours.tensors[f"{layer.name}.weight"].numpy(), 0, 5)
        assert len(np.unique(runs[:, :-1].reshape(-1, 5), axis=0)) <= 16
        assert layer.bits == pytest.approx(0.8)
    # a book of 16 vectors of 5, and codes that take 4 bits of a run at most
    floats = sum(4 * module.get_parameter(f"{layer.name}.bias").numel() for layer in ours.layers)
    codes = sum(
        -(-weight[0].numel() // 5) * len(weight)
        for weight in (module.get_parameter(f"{layer.name}.weight") for layer in ours.layers)
    )
    assert ours.nbytes <= floats + codes / 2 + 4 * 16 * 5 * (2 if half == "true" else 4) + 700
    path = ours.save(tmp_path / "model.wbz")
    assert path.stat().st_size == ours.nbytes
    assert torch.equal(wb.load_compressed(path, model=module).module.fc1.weight, ours.tensors["fc1.weight"])


def test_runs_that_pruning_left_empty_stay_zero(module: nn.Module) -> None:
    recipe = "- prune: {granularity: block, ratio: 0.8}\n" + PRODUCT + "block: 4, bits: 4, iterations: 3}"
    pruned = compress(module, recipe.splitlines()[0], image_shape=SHAPE)
    ours = compress(module, recipe, image_shape=SHAPE)
    empty = ~as_runs(pruned.tensors["fc1.weight"].numpy(), 0, 4).any(2)
    after = ~as_runs(ours.tensors["fc1.weight"].numpy(), 0, 4).any(2)
    assert empty.mean() > 0.4
    assert np.array_equal(empty, after)


def test_weighing_by_data_errs_less_in_what_a_layer_gives() -> None:
    data = wb.load_dataset("fashion_mnist")
    model = wb.load_model("lenet300")
    text = PRODUCT + 'layers: ["fc1"], bits: 4, block: 4'
    plain, weighed = (wb.compress(model, f"{text}, weighted: {flag}}}", data) for flag in ("false", "true"))
    assert model.normalization is not None
    images = model.normalization(data["test"].images[:500]).flatten(1)
    weight = model.module.get_parameter("fc1.weight").detach()
    far = [float((images @ (ours.tensors["fc1.weight"] - weight).T).square().mean()) for ours in (plain, weighed)]
    apart = [float((ours.tensors["fc1.weight"] - weight).square().mean()) for ours in (plain, weighed)]
    assert far[1] < 0.8 * far[0]
    assert apart[0] < apart[1]


def test_weighing_needs_data(module: nn.Module) -> None:
    with pytest.raises(WorkbenchError, match="needs calibration data"):
        compress(module, PRODUCT + "weighted: true}", image_shape=SHAPE)


def test_a_bucket_is_the_mean_of_its_weights(module: nn.Module) -> None:
    ours = compress(module, "- prune: {ratio: 0.5}\n- share: {method: hash, bits: 8, seed: 3}", image_shape=SHAPE)
    pruned = compress(module, "- prune: {ratio: 0.5}", image_shape=SHAPE)
    storage = ours.stored["conv2.weight"]
    assert isinstance(storage, SharedBuckets)
    before, after = pruned.tensors["conv2.weight"].flatten(), ours.tensors["conv2.weight"].flatten()
    places = torch.from_numpy(bucket_of(len(before), len(storage.books), 3).astype(np.int64))
    for bucket in range(0, len(storage.books), 97):
        members = (places == bucket) & (before != 0)
        torch.testing.assert_close(after[members], before[members].mean().expand(int(members.sum())))
    assert torch.equal(after == 0, before == 0)
    assert len(storage.books) == -(-int((before != 0).sum()) // 4)


def test_as_many_buckets_as_the_share_says(module: nn.Module) -> None:
    ours = compress(module, "- share: {method: hash, buckets: 0.125, half: true}", image_shape=SHAPE)
    floats = sum(4 * module.get_parameter(f"{layer.name}.bias").numel() for layer in ours.layers)
    assert ours.nbytes <= floats + 2 * (430_500 / 8 + 4) + 700
    assert {layer.bits for layer in ours.layers} == {2.0, 2.02}


@pytest.mark.parametrize("how", ["method: product, block: 3, bits: 5", "method: hash, bits: 8"])
def test_pruning_afterwards_leaves_zeros_and_still_reloads(module: nn.Module, how: str, tmp_path: Path) -> None:
    ours = compress(module, f"- share: {{{how}, iterations: 2}}\n- prune: {{ratio: 0.5}}", image_shape=SHAPE)
    assert (ours.tensors["fc1.weight"] == 0).float().mean() > 0.3
    again = wb.load_compressed(ours.save(tmp_path / "model.wbz"), model=module)
    assert torch.equal(again.module.fc1.weight, ours.tensors["fc1.weight"])


@pytest.mark.parametrize("code", ["huffman", "ans", "none"])
def test_codes_of_runs_are_packed_as_asked(module: nn.Module, code: str) -> None:
    text = PRODUCT + "bits: 3, block: 2, iterations: 2}"
    ours = compress(module, f"{text}\n- pack: {{code: {code}}}", image_shape=SHAPE)
    kind = ours.archive.tensors["fc1.weight"].describe()["codes"]["kind"]
    assert kind == {"huffman": "entropy", "ans": "ans", "none": "packed"}[code]
    assert torch.equal(ours.tensors["fc1.weight"], compress(module, text, image_shape=SHAPE).tensors["fc1.weight"])


@pytest.mark.parametrize("how", ["method: product", "method: hash"])
@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_layer_of_equal_weights_is_kept_exactly(how: str, value: float) -> None:
    layer = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.constant_(layer[1].weight, value)
    assert torch.equal(compress(layer, f"- share: {{{how}}}", image_shape=SHAPE).module[1].weight, layer[1].weight)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- share: {method: hash, entries: 20}", "method hash has none"),
        ("- share: {buckets: 0.5}", "buckets belong to method hash"),
        ("- share: {method: hash, bits: 4, buckets: 0.5}", "leave one of them out"),
        ("- share: {method: product, block: 0}", "block is 0"),
    ],
)
def test_settings_that_contradict_are_told_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(WorkbenchError, match=message):
        wb.Recipe.parse(text)


def test_the_hash_of_an_older_recipe_stays() -> None:
    assert "method" not in wb.Recipe.parse("- share: {bits: 4}").steps[0].settings.hashed()
