"""Codebooks are k-means' own: scikit-learn finds the same, zeros stay zero, and files hold what is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn

import workbench as wb
from workbench.compression import compress
from workbench.errors import WorkbenchError
from workbench.models.zoo import ARCHITECTURES
from workbench.techniques.codebook import SharedValues
from workbench.techniques.kmeans import SortedValues, assign_all, cluster_all, start_all

SHAPE = (1, 28, 28)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES["lenet5"]().eval()


@pytest.mark.parametrize("start", ["linear", "density", "random"])
@pytest.mark.parametrize("count", [2, 5, 16])
def test_clusters_equal_scikit_learns(start: str, count: int) -> None:
    values = np.random.default_rng(count).standard_normal(3000).astype(np.float32)
    ours = SortedValues(values)
    first = ours.start(start, count, seed=3)  # type: ignore[arg-type]
    codes, centres = ours.assign(ours.cluster(first, 1000))
    column = values.astype(np.float64).reshape(-1, 1)
    theirs = KMeans(count, init=first.reshape(-1, 1), n_init=1, max_iter=1000, tol=0, algorithm="lloyd").fit(column)
    order = np.argsort(theirs.cluster_centers_.ravel())
    np.testing.assert_allclose(centres, theirs.cluster_centers_.ravel()[order], atol=1e-6)
    np.testing.assert_array_equal(codes, np.argsort(order)[theirs.labels_])


@pytest.mark.parametrize("start", ["linear", "density", "random"])
def test_runs_together_come_to_what_each_comes_to_alone(start: str) -> None:
    chance = np.random.default_rng(0)
    values = [chance.standard_normal(size).astype(np.float32) for size in (900, 1, 40, 300)]
    values += [np.zeros(0, np.float32), np.full(7, 0.25, np.float32)]
    values *= 6  # enough for the search in all of them at once
    runs = [SortedValues(part) for part in values]
    starts = start_all(runs, start, 16, seed=3)  # type: ignore[arg-type]
    centres = cluster_all(runs, starts, 30)
    for run, part, first, found, (numbers, book) in zip(
        runs, values, starts, centres, assign_all(runs, centres), strict=True
    ):
        codes = run.placed(numbers, len(book))
        if start == "linear" and len(part):
            np.testing.assert_array_equal(first, np.linspace(float(part.min()), float(part.max()), 16))
        np.testing.assert_array_equal(found, run.cluster(first, 30))
        distances = np.abs(part[:, None].astype(np.float64) - found)
        np.testing.assert_allclose(np.abs(part - book[codes]), distances.min(axis=1) if len(part) else [], atol=1e-6)


@pytest.mark.parametrize("threshold", [0.0, 0.5, 9.0])
def test_values_beyond_a_threshold_are_in_order_as_if_there_were_no_others(threshold: float) -> None:
    chance = np.random.default_rng(0)
    values, counts = chance.standard_normal(500).astype(np.float32), chance.random(500).astype(np.float32)
    values[::9], values[::31], values[::50] = 0, -0.5, 0.5
    counts[np.isin(values, (-0.5, 0.5))] = 1  # those that are equal come in any order
    left = np.abs(values) > threshold
    for weights in (None, counts):
        ours = SortedValues(values, weights).beyond(threshold)
        alone = SortedValues(values[left], None if weights is None else weights[left])
        for part in ("keys", "sums", "squares"):
            np.testing.assert_array_equal(getattr(ours, part), getattr(alone, part))
        if weights is not None:
            np.testing.assert_array_equal(ours.masses, alone.masses)
        if left.any():
            (codes, book), (expected, same) = (run.assign(np.array([-1.0, 0.1, 2.0])) for run in (ours, alone))
            np.testing.assert_array_equal(book, same)
            np.testing.assert_array_equal(codes[left], expected)
            assert (codes[~left] == len(book)).all()


def test_a_pruned_layers_book_is_what_its_weights_alone_come_to(module: nn.Module) -> None:
    ours = compress(module, "- prune: {ratio: 0.7}\n- share: {bits: 3, start: density}", image_shape=SHAPE)
    pruned = compress(module, "- prune: {ratio: 0.7}", image_shape=SHAPE)
    for layer in ours.layers:
        weight = pruned.tensors[f"{layer.name}.weight"].numpy()
        left = SortedValues(weight[weight != 0])
        codes, book = left.assign(left.cluster(left.start("density", 8, 0), 50))
        np.testing.assert_array_equal(ours.tensors[f"{layer.name}.weight"].numpy()[weight != 0], book[codes])
        assert not ours.tensors[f"{layer.name}.weight"].numpy()[weight == 0].any()


def test_clustering_is_given_up_when_no_longer_wanted() -> None:
    class Unwanted(Exception):
        pass

    def check() -> None:
        raise Unwanted

    with pytest.raises(Unwanted):
        cluster_all([SortedValues(np.arange(9, dtype=np.float32))], np.zeros((1, 2)), 5, check=check)


def test_every_weight_takes_the_nearest_entry(module: nn.Module) -> None:
    ours = compress(module, "- share: {bits: 3, iterations: 2}", image_shape=SHAPE)
    weight = module.fc1.weight.detach()
    storage = ours.stored["fc1.weight"]
    assert isinstance(storage, SharedValues)
    nearest = (weight.flatten()[:, None] - storage.books[0]).abs().argmin(1)
    torch.testing.assert_close(ours.tensors["fc1.weight"].flatten(), storage.books[0][nearest])
    assert len(ours.tensors["fc1.weight"].unique()) <= 8


def test_pruned_weights_stay_zero_and_take_no_entry(module: nn.Module) -> None:
    ours = compress(module, "- prune: {ratio: 0.9}\n- share: {bits: 2}", image_shape=SHAPE)
    pruned = compress(module, "- prune: {ratio: 0.9}", image_shape=SHAPE)
    for name in ("conv2.weight", "fc1.weight"):
        assert torch.equal(ours.tensors[name] == 0, pruned.tensors[name] == 0)
        assert len(ours.tensors[name].unique()) == 5
    assert [layer.bits for layer in ours.layers] == [2, 2, 2, 2]
    kept = int(sum((ours.tensors[layer.name + ".weight"] != 0).sum() for layer in ours.layers))
    floats = sum(4 * module.get_parameter(f"{layer.name}.bias").numel() for layer in ours.layers)
    # 2 bits a weight kept, and no more than 0.47 + 0.03 a place for which are kept (the entropy at 90 % is 0.47)
    assert ours.nbytes - floats <= kept * 2 / 8 + 0.5 * 430_500 / 8 + 700


@pytest.mark.parametrize("bits", [4, 8])
def test_pruning_after_sharing_keeps_the_book(module: nn.Module, bits: int) -> None:
    ours = compress(module, f"- share: {{bits: {bits}}}\n- prune: {{ratio: 0.5}}", image_shape=SHAPE)
    storage = ours.stored["fc1.weight"]
    assert isinstance(storage, SharedValues)
    assert torch.equal(storage.decode(), ours.tensors["fc1.weight"])
    assert (ours.tensors["fc1.weight"] == 0).float().mean() > 0.3


def test_groups_have_books_of_their_own_channels(module: nn.Module) -> None:
    ours = compress(module, "- share: {bits: 2, scope: group, group: 8}", image_shape=SHAPE)
    for first in range(0, 50, 8):
        assert len(ours.tensors["conv2.weight"][first : first + 8].unique()) <= 4
    alone = compress(module, "- share: {bits: 2}", image_shape=SHAPE)
    before = module.conv2.weight.detach()
    assert (ours.tensors["conv2.weight"] - before).norm() < (alone.tensors["conv2.weight"] - before).norm()


def test_one_book_serves_all_layers(module: nn.Module) -> None:
    ours = compress(module, "- share: {entries: 6, scope: model}", image_shape=SHAPE)
    values = torch.cat([ours.tensors[f"{name}.weight"].flatten() for name in ("conv1", "conv2", "fc1", "fc2")])
    assert len(values.unique()) <= 6


@pytest.mark.parametrize(
    "text",
    [
        "- share: {bits: 1}",
        "- share: {bits: 8}",
        "- prune: {ratio: 0.8}\n- share: {entries: 17, start: random}",
        "- prune: {ratio: 0.5}\n- share: {bits: 8}",
        "- prune: {ratio: 0.5}\n- share: {bits: 3, scope: group, group: 7}",
        "- share: {bits: 3, scope: group, group: 6}\n- prune: {granularity: filter, ratio: 0.5}",
        "- share: {bits: 4, scope: model}\n- prune: {ratio: 0.3}",
    ],
)
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_file_is_the_size_shown_and_reloads_bit_identical(name: str, text: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = wb.compress(ARCHITECTURES[name]().eval(), text, image_shape=SHAPE)
    path = ours.save(tmp_path / "small.wbz")
    assert path.stat().st_size == ours.nbytes
    loaded = wb.load_compressed(path, model=ARCHITECTURES[name]())
    for key, value in loaded.module.state_dict().items():
        assert torch.equal(value, ours.tensors[key])
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_a_layer_of_equal_weights_is_kept_exactly(value: float) -> None:
    layer = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.constant_(layer[1].weight, value)
    ours = compress(layer, "- share: {bits: 4, start: random}", image_shape=SHAPE)
    assert torch.equal(ours.tensors["1.weight"], layer[1].weight)
    assert torch.equal(ours.module[1].weight, layer[1].weight)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- share: {bits: 4, entries: 20}", "leave one of them out"),
        ("- share: {bits: 9}", "bits is 9, but it should be 1 to 8"),
        ("- share: {entries: 1}", "entries is 1"),
        ("- share: {scope: group, group: 0}", "group is 0"),
    ],
)
def test_settings_that_contradict_are_told_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(WorkbenchError, match=message):
        wb.Recipe.parse(text)


def test_weighted_clusters_equal_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    values, counts = generator.standard_normal(3000).astype(np.float32), generator.random(3000).astype(np.float32)
    ours = SortedValues(values, counts)
    first = ours.start("linear", 9, 0)
    centres = ours.cluster(first, 1000, refill=False)
    theirs = KMeans(9, init=first.reshape(-1, 1), n_init=1, max_iter=1000, tol=0, algorithm="lloyd")
    theirs.fit(values.astype(np.float64).reshape(-1, 1), sample_weight=counts.astype(np.float64))
    np.testing.assert_allclose(centres, np.sort(theirs.cluster_centers_.ravel()), atol=1e-6)
