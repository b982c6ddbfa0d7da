"""Every format gives what its definition says, stores it in the file it says, and comes back bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import workbench as wb
from workbench.encodings.tables import NF4, named_table
from workbench.models.zoo import ARCHITECTURES
from workbench.techniques.kmeans import SortedValues
from workbench.techniques.quantize.ranges import BINS, entropy_thresholds
from workbench.techniques.quantize.tables import lloyd, number_below

SHAPE = (1, 28, 28)
FORMATS = (
    "{format: fp8_e4m3}",
    "{format: fp8_e5m2, per: tensor}",
    "{format: fixed, bits: 6}",
    "{format: fixed, bits: 16}",
    "{format: integer, bits: 16}",
    "{format: binary}",
    "{format: ternary}",
    "{format: ternary, per: group, group_size: 7}",
    "{format: kmeans, bits: 3}",
    "{format: kmeans, bits: 8, per: tensor}",
    "{format: pot, bits: 4}",
    "{format: apot, bits: 5, range: mse}",
    "{format: nf, bits: 4, per: group, group_size: 16}",
    "{format: nf, bits: 3, range: percentile, percentile: 99}",
    "{bits: 4, per: group, group_size: 16}",
    "{bits: 3, per: group, group_size: 7, scheme: symmetric, range: mse}",
    "{bits: 4, range: percentile, percentile: 98}",
    "{bits: 4, range: entropy}",
    "{bits: 2, rounding: stochastic, seed: 3}",
)


@pytest.mark.parametrize("text", ["{bits: 16}", "{format: fp16}", "{format: bf16}"])
def test_weights_beyond_the_largest_of_a_short_float_stay_finite_and_are_told(text: str) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
    module[1].weight.data[0, :2] = torch.tensor([1e6, -3.4e38])
    ours = wb.compress(module, f"- quantize: {text}", image_shape=SHAPE)
    assert bool(ours.tensors["1.weight"].isfinite().all())
    assert any("cut to" in note for note in ours.notes) == ("bf16" not in text)
    if "bf16" not in text:
        assert ours.tensors["1.weight"][0, :2].tolist() == [65504, -65504]


def test_transposed_convolutions_by_channel_have_a_scale_for_each_and_groups_are_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ConvTranspose2d(6, 6, 3, groups=6), nn.ConvTranspose2d(6, 4, 3, groups=2),
        nn.ConvTranspose2d(4, 5, 3), nn.Flatten(), nn.Linear(5 * 32 * 32, 10),
    ).eval()  # fmt: skip
    for channel in range(6):
        module[1].weight.data[channel] *= 4.0**channel
    ours = wb.compress(module, "- quantize: {bits: 4}", image_shape=SHAPE)
    assert {name: len(ours.codes[f"{name}.weight"].scale) for name in "123"} == {"1": 6, "2": 2, "3": 5}
    assert [note for note in ours.notes if "in groups" in note] == [
        "A transposed convolution in groups keeps a scale for each output of a group, which all its groups share: 2."
    ]
    error = (ours.tensors["1.weight"] - module[1].weight.detach()).flatten(1).square().mean(1).sqrt()
    assert bool((error < 0.1 * module[1].weight.detach().flatten(1).abs().amax(1)).all())
    assert ours.summarize_channels("1").channels == 6
    assert len(ours.weight_pair("1").before) == 6
    again = wb.load_compressed(ours.save(tmp_path / "up.wbz"), model=module)
    assert again.module(torch.zeros(1, *SHAPE)).shape == (1, 10)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES["lenet5"]().eval()


def quantized(module: nn.Module, settings: str) -> wb.compression.CompressedModel:
    return wb.compress(module, f"- quantize: {settings}", image_shape=SHAPE)


@pytest.mark.parametrize("before", ["", "- prune: {ratio: 0.7}\n"])
@pytest.mark.parametrize("settings", FORMATS)
def test_size_is_the_files_and_pruned_weights_stay_zero(
    module: nn.Module, settings: str, before: str, tmp_path: Path
) -> None:
    ours = wb.compress(module, f"{before}- quantize: {settings}", image_shape=SHAPE)
    path = ours.save(tmp_path / "small.wbz")
    assert path.stat().st_size == ours.nbytes < 4 * 431_080
    loaded = wb.load_compressed(path, model=ARCHITECTURES["lenet5"]())
    for name, value in loaded.module.state_dict().items():
        assert value.numpy().tobytes() == ours.tensors[name].numpy().tobytes()
        assert bool(value.isfinite().all())
    if before:
        alone = wb.compress(module, before, image_shape=SHAPE)
        for name, value in alone.tensors.items():
            assert bool((ours.tensors[name][value == 0] == 0).all())


@pytest.mark.parametrize("settings", FORMATS)
def test_pruning_afterwards_keeps_the_format(module: nn.Module, settings: str) -> None:
    quantized_first = wb.compress(module, f"- quantize: {settings}\n- prune: {{ratio: 0.5}}", image_shape=SHAPE)
    alone = quantized(module, settings)
    assert [layer.bits for layer in quantized_first.layers] == [layer.bits for layer in alone.layers]
    for name, value in quantized_first.tensors.items():
        assert torch.equal(value, torch.where(value == 0, 0, alone.tensors[name]))


@pytest.mark.parametrize("settings", FORMATS)
def test_removed_channels_leave_the_others_as_they_were(settings: str) -> None:
    torch.manual_seed(1)
    module = ARCHITECTURES["resnet20"]().eval()
    prune = "- prune: {granularity: filter, ratio: 0.5, scope: layer}"
    ours = wb.compress(module, f"- quantize: {settings}\n{prune}", image_shape=SHAPE)
    assert all(torch.equal(value, ours.tensors[key]) for key, value in ours.module.state_dict().items())


@pytest.mark.parametrize(
    ("form", "dtype", "top"),
    [("fp8_e4m3", torch.float8_e4m3fn, 448.0), ("fp8_e5m2", torch.float8_e5m2, 57344.0)],
)
def test_fp8_equals_torchs_cast_of_the_scaled_weights(
    module: nn.Module, form: str, dtype: torch.dtype, top: float
) -> None:
    weight = module.get_submodule("fc1").weight.detach()
    scale = weight.abs().amax(1, keepdim=True) / top
    expected = (weight / scale).clamp(-top, top).to(dtype).float() * scale
    assert torch.equal(quantized(module, f"{{format: {form}}}").tensors["fc1.weight"], expected)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
@pytest.mark.parametrize("fraction", [3, 6, 12])
def test_fixed_point_is_twos_complement_over_a_power_of_two(module: nn.Module, bits: int, fraction: int) -> None:
    weight = module.get_submodule("conv2").weight.detach()
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    expected = (weight * 2.0**fraction).round().clamp(low, high) / 2.0**fraction
    ours = quantized(module, f"{{format: fixed, bits: {bits}, fraction_bits: {fraction}}}")
    assert torch.equal(ours.tensors["conv2.weight"], expected)


@pytest.mark.parametrize("bits", [3, 5, 8])
def test_the_fitted_split_is_the_best(module: nn.Module, bits: int) -> None:
    weight = module.get_submodule("conv2").weight.detach()
    ours = quantized(module, f"{{format: fixed, bits: {bits}}}").tensors["conv2.weight"]
    for fraction in range(-2, 20):
        other = quantized(module, f"{{format: fixed, bits: {bits}, fraction_bits: {fraction}}}").tensors["conv2.weight"]
        assert (ours - weight).square().sum() <= (other - weight).square().sum() * (1 + 1e-6)


def test_sixteen_bit_integers_equal_torch_fake_quantize(module: nn.Module) -> None:
    weight = module.get_submodule("fc1").weight.detach()
    low, high = weight.amin(1).clamp_max(0), weight.amax(1).clamp_min(0)
    scale = (high - low) / 65535
    zero = (-low / scale).round()
    expected = torch.fake_quantize_per_channel_affine(weight, scale, zero.int(), 0, 0, 65535)
    ours = quantized(module, "{format: integer, bits: 16}").tensors["fc1.weight"]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("size", [1, 5, 10, 16, 19, 20])
def test_a_group_is_quantized_as_a_tensor_of_its_own(module: nn.Module, size: int) -> None:
    weight = module.get_submodule("conv2").weight.detach()  # 50 × 20 × 5 × 5
    ours = quantized(module, f"{{bits: 4, per: group, group_size: {size}, layers: [conv2]}}").tensors["conv2.weight"]
    for part, found in zip(weight.split(size, 1), ours.split(size, 1), strict=True):
        low, high = part.flatten(1).amin(1).clamp_max(0), part.flatten(1).amax(1).clamp_min(0)
        scale = (high - low) / 15
        zero = (-low / scale).round().clamp(0, 15)
        expected = torch.fake_quantize_per_channel_affine(part, scale, zero.int(), 0, 0, 15)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_binary_is_sign_times_mean_magnitude(module: nn.Module) -> None:
    weight = module.get_submodule("fc1").weight.detach()
    expected = weight.sign() * weight.abs().mean(1, keepdim=True)
    ours = quantized(module, "{format: binary}")
    torch.testing.assert_close(ours.tensors["fc1.weight"], expected)
    assert ours.nbytes < 431_080 / 8 + 6000


def test_ternary_is_that_of_the_paper(module: nn.Module) -> None:
    weight = module.get_submodule("fc1").weight.detach()
    expected = torch.zeros_like(weight)
    for row, found in zip(weight, expected, strict=True):
        beyond = row.abs() > 0.7 * row.abs().mean()
        found[beyond] = row[beyond].sign() * row[beyond].abs().mean()
    torch.testing.assert_close(quantized(module, "{format: ternary}").tensors["fc1.weight"], expected)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_lloyd_ends_where_no_level_moves(bits: int) -> None:
    values = np.random.default_rng(bits).normal(size=4000).astype(np.float32)
    (levels,) = lloyd([SortedValues(values)], bits)
    nearest = np.abs(values[:, None] - levels).argmin(1)
    means = [values[nearest == place].mean() for place in range(len(levels))]
    assert len(levels) == 2**bits
    np.testing.assert_allclose(levels, means, atol=2e-2)


def test_levels_equal_scikit_learns_from_the_same_start(module: nn.Module) -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    weight = module.get_submodule("conv2").weight.detach()
    start = np.linspace(float(weight.min()), float(weight.max()), 8)[:, None]
    fitted = cluster.KMeans(8, init=start, n_init=1, max_iter=50, tol=0).fit(weight.reshape(-1, 1).double().numpy())
    ours = quantized(module, "{format: kmeans, bits: 3, per: tensor}").tensors["conv2.weight"].unique()
    np.testing.assert_allclose(ours.numpy(), np.sort(fitted.cluster_centers_.ravel()), atol=1e-5)


@pytest.mark.parametrize(("settings", "table"), [("{format: nf, bits: 4}", NF4), ("{format: pot, bits: 4}", "pot4")])
def test_weights_take_the_nearest_value_of_the_table(module: nn.Module, settings: str, table: object) -> None:
    values = torch.tensor(named_table(table) if isinstance(table, str) else np.array(table, np.float32))
    weight = module.get_submodule("conv2").weight.detach()
    scale = weight.abs().amax((1, 2, 3), keepdim=True)
    nearest = values[(weight / scale).unsqueeze(-1).sub(values).abs().argmin(-1)] * scale
    torch.testing.assert_close(quantized(module, settings).tensors["conv2.weight"], nearest)


@pytest.mark.parametrize("middles", [np.arange(7) / 7, 2.0 ** np.arange(-9, 3), np.linspace(-1, 1, 255) ** 3])
def test_numbers_are_placed_as_a_search_places_them(middles: NDArray[np.float64]) -> None:
    middles = middles.astype(np.float32)
    near = [np.nextafter(middles, np.float32(end)) for end in (-9, 9)]
    spread = np.random.default_rng(0).normal(scale=np.ptp(middles), size=20_000).astype(np.float32)
    numbers = np.concatenate([middles, *near, spread, np.float32([-100, 0, 100])])
    np.testing.assert_array_equal(number_below(middles, numbers), np.searchsorted(middles, numbers))


def test_layers_fitted_together_are_what_each_is_alone() -> None:
    torch.manual_seed(2)
    module = ARCHITECTURES["resnet20"]().eval()
    name = "stage2.1.conv1"
    for settings in ("bits: 3, range: mse", "bits: 5, range: entropy", "format: apot, bits: 4, range: mse"):
        step = f"- quantize: {{{settings}"
        every = wb.compress(module, f"{step}}}", image_shape=SHAPE).tensors[f"{name}.weight"]
        alone = wb.compress(module, f"{step}, layers: ['{name}']}}", image_shape=SHAPE).tensors[f"{name}.weight"]
        assert torch.equal(every, alone)


@pytest.mark.parametrize("form", ["bits: 3", "format: nf, bits: 3", "bits: 2, scheme: symmetric, per: tensor"])
def test_the_mse_range_is_never_worse_and_mostly_better(module: nn.Module, form: str) -> None:
    for name in ("conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight"):
        weight = module.get_parameter(name).detach()
        full, best = (quantized(module, f"{{{form}{more}}}").tensors[name] for more in ("", ", range: mse"))
        assert (best - weight).square().sum() <= (full - weight).square().sum() * (1 + 1e-6)


def test_stochastic_rounding_keeps_the_mean_and_follows_its_seed(module: nn.Module) -> None:
    weight = module.get_submodule("fc1").weight.detach()
    draws = [quantized(module, f"{{bits: 3, rounding: stochastic, seed: {seed}}}") for seed in range(12)]
    found = [draw.tensors["fc1.weight"] for draw in draws]
    again = quantized(module, "{bits: 3, rounding: stochastic, seed: 5}").tensors["fc1.weight"]
    assert torch.equal(found[5], again)
    assert not torch.equal(found[5], found[6])
    step = draws[0].codes["fc1.weight"].scale.view(-1, 1)
    assert all(bool((((value - weight) / step).abs() < 1 + 1e-4).all()) for value in found)
    inside = (torch.stack(found).mean(0) - weight) / step
    # the mean of 12 × 400,000 draws whose standard deviation is below half a step
    assert abs(float(inside[:, :].mean())) < 0.005


def test_entropy_thresholds_equal_a_loop_over_bins() -> None:
    counts = np.random.default_rng(0).poisson(3000 * np.exp(-np.arange(BINS) / 40)).astype(np.float64)
    counts[-1] += 3
    (found,) = entropy_thresholds(counts[None], 16)
    tried = np.unique(np.linspace(16, BINS, 48).astype(int))
    divergences = [_divergence(counts, kept, 16) for kept in tried]
    assert found == max(kept for kept, value in zip(tried, divergences, strict=True) if value == min(divergences))
    assert found < BINS


def _divergence(counts: np.ndarray, kept: int, levels: int) -> float:
    before = counts[:kept].copy()
    before[-1] += counts[kept:].sum()
    after = np.zeros(kept)
    for level in range(levels):
        first, last = level * kept // levels, (level + 1) * kept // levels
        used = [place for place in range(first, last) if before[place] > 0]
        for place in used:
            after[place] = counts[first:last].sum() / len(used)
    p, q = before / before.sum(), after / after.sum()
    return float(sum(a * np.log(a / max(b, 1e-12)) for a, b in zip(p, q, strict=True) if a > 0))


@pytest.mark.parametrize("settings", FORMATS)
@pytest.mark.parametrize("value", [0.0, 0.25, -3.0])
def test_layers_of_equal_weights_survive(settings: str, value: float) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.constant_(flat[1].weight, value)
    found: Tensor = quantized(flat, settings).tensors["1.weight"]
    assert bool(found.isfinite().all())
    if "stochastic" not in settings and "percentile" not in settings:
        torch.testing.assert_close(found, torch.full((10, 784), value), rtol=0.15, atol=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("{format: fp8_e4m3, bits: 4}", "format fp8_e4m3 has 8 bits, not 4"),
        ("{format: binary, bits: 2}", "format binary has 1 bit, not 2"),
        ("{format: pot, bits: 1}", "format pot has 2 to 8 bits, not 1"),
        ("{format: kmeans, bits: 16}", "format kmeans has 1 to 8 bits, not 16"),
        ("{fraction_bits: 3}", "fraction_bits belong to format fixed"),
        ("{format: fixed, bits: 8, per: group}", "per cannot be group"),
        ("{format: nf, bits: 4, rounding: stochastic}", "format nf has none"),
        ("{format: kmeans, bits: 4, range: mse}", "format kmeans has no range to choose"),
        ("{bits: 4, per: group, group_size: 5000}", "group of 5000 input channels is larger than any channel"),
        ("{bits: 4, per: group, group_size: 2, layers: [conv1]}", "the layers have at most 1"),
    ],
)
def test_settings_that_contradict_say_so(module: nn.Module, settings: str, words: str) -> None:
    with pytest.raises(wb.WorkbenchError, match=words):
        quantized(module, settings)


def test_layers_with_fewer_channels_than_a_group_are_named(module: nn.Module) -> None:
    ours = quantized(module, "{bits: 4, per: group, group_size: 16}")
    assert ours.notes == ("1 of 4 layers have fewer than 16 input channels and take one scale per channel: conv1.",)
