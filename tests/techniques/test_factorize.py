"""Factors are the best of their rank, the chain computes their product, and every figure follows the chain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import workbench as wb
from workbench.compression import compress
from workbench.data.load import load_dataset
from workbench.errors import WorkbenchError
from workbench.models.factors import Factorize
from workbench.models.layers import layers_of
from workbench.models.zoo import ARCHITECTURES
from workbench.run.onnx_export import export_graph
from workbench.run.onnx_factors import Chain
from workbench.run.onnx_graph import KEPT_FACTORIZED
from workbench.run.runner import OnnxRunner

SHAPE = (1, 28, 28)


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES["lenet5"]().eval()


def awkward() -> nn.Module:
    """Strides, dilation, one-sided kernels, groups, and a Linear on more than two axes."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 12, (3, 5), stride=(2, 1), padding=(1, 2)),
        nn.Conv2d(12, 16, 3, dilation=2, padding="same"),
        nn.Conv2d(16, 16, 3, groups=4),
        nn.Conv2d(16, 20, 3, stride=3),
        nn.Flatten(2),
        nn.Linear(32, 12),
        nn.Flatten(),
        nn.Linear(240, 10),
    ).eval()


@pytest.mark.parametrize("layer", ["conv2", "fc1"])
def test_the_product_is_the_best_of_its_rank(module: nn.Module, layer: str) -> None:
    ours = compress(module, f"- factorize: {{rank: 7, layers: [{layer}]}}", image_shape=SHAPE)
    matrix = module.get_submodule(layer).weight.detach().flatten(1).double()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    best = (left[:, :7] * values[:7]) @ right[:7]
    product = ours.tensors[f"{layer}.weight"]
    assert product.shape == module.get_submodule(layer).weight.shape
    torch.testing.assert_close(product.flatten(1).double(), best, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("- factorize: {size: 0.6}", {"1", "3", "7"}),
        ("- factorize: {rank: 2}\n- prune: {ratio: 0.2}", {"1", "3", "7"}),
        *(
            (f"- factorize: {{scheme: {scheme}, size: 0.6}}", {"1", "3"})
            for scheme in ("tucker2", "tucker", "cp", "tt")
        ),
        ("- factorize: {scheme: tucker, rank: 3}\n- quantize: {bits: 4}", {"1", "3"}),
    ],
)
def test_the_chain_computes_what_the_product_does(text: str, layers: set[str]) -> None:
    module = awkward()
    ours = compress(module, text, image_shape=SHAPE)
    assert {edit.layer for edit in ours.edits if isinstance(edit, Factorize)} >= layers
    dense = awkward()
    products = {name: ours.tensors[name] for name in dense.state_dict()}
    dense.load_state_dict(products)
    images = torch.randn(3, *SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(ours.module(images), dense(images), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scheme", ["svd", "tucker2", "tucker", "cp", "tt"])
@pytest.mark.parametrize("make", [ARCHITECTURES["resnet20"], ARCHITECTURES["lenet5"], awkward])
def test_the_exported_chain_answers_as_the_module_does(make: object, scheme: str) -> None:
    torch.manual_seed(0)
    module = make().eval()  # type: ignore[operator]
    ours = compress(
        module, f"- factorize: {{scheme: {scheme}, {'rank: 6' if scheme == 'cp' else 'size: 0.5'}}}", image_shape=SHAPE
    )
    assert ours.chains
    graph = export_graph(module, SHAPE).factorized(ours.chains)
    images = torch.randn(4, *SHAPE)
    with torch.inference_mode():
        theirs = ours.module(images).numpy()
    found = OnnxRunner(graph.build(ours.tensors)).logits(images)
    np.testing.assert_allclose(found, theirs.reshape(found.shape), atol=1e-5 * max(1, np.abs(theirs).max()))


def test_graphs_of_the_sets_of_layers_lately_asked_for_are_kept_and_no_more(module: nn.Module) -> None:
    graph = export_graph(module, SHAPE)
    ways = [(Chain("fc1", tuple(((), False) for _ in range(links))),) for links in range(2, KEPT_FACTORIZED + 4)]
    first = graph.factorized(ways[0])
    for way in ways[1:]:
        graph.factorized(way)
        assert graph.factorized(ways[0]) is first, "what is asked for again stays"
    assert list(graph._factorized) == [*ways[1 - KEPT_FACTORIZED :], ways[0]]


# the decomposition of LeNet-5's large layer takes half a minute; that of small ones is looked at in every run
@pytest.mark.parametrize(
    ("make", "scheme"),
    [
        pytest.param(
            make, scheme, marks=[pytest.mark.slow] if (make, scheme) == (ARCHITECTURES["lenet5"], "cp") else []
        )
        for make in (ARCHITECTURES["lenet5"], awkward)
        for scheme in ("svd", "tucker2", "tucker", "cp", "tt")
    ],
)
def test_parameters_and_macs_are_those_of_the_smaller_layers(make: object, scheme: str) -> None:
    torch.manual_seed(0)
    ours = compress(make().eval(), f"- factorize: {{scheme: {scheme}, size: 0.5}}", image_shape=SHAPE)  # type: ignore[operator]
    counted = layers_of(ours.module, SHAPE)
    assert sum(layer.macs for layer in ours.layers) == sum(layer.macs for layer in counted)
    assert sum(layer.params for layer in ours.layers) == sum(layer.params for layer in counted)
    factorized = [layer for layer in ours.layers if scheme in layer.type]
    assert factorized
    assert sum(layer.bytes for layer in ours.layers) <= ours.nbytes


@pytest.mark.parametrize(
    "text",
    [
        "- factorize: {size: 0.5}",
        "- factorize: {energy: 0.9, multiple: 4}",
        "- factorize: {size: 0.5}\n- prune: {ratio: 0.3}\n- quantize: {bits: 4}",
        "- factorize: {size: 0.6}\n- share: {bits: 3}",
        "- factorize: {scheme: tucker2, size: 0.5}\n- quantize: {bits: 4}",
        "- factorize: {scheme: tt, size: 0.5}",
        "- factorize: {size: 0.5}\n- prune: {granularity: filter, ratio: 0.5, scope: layer}",
        "- prune: {granularity: filter, ratio: 0.5, scope: layer}\n- factorize: {}\n- quantize: {format: fp16}",
    ],
)
@pytest.mark.parametrize("name", ["lenet5", "resnet20", "mobilenetv2"])
def test_the_file_is_the_size_shown_and_reloads_bit_identical(name: str, text: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ours = wb.compress(ARCHITECTURES[name]().eval(), text, image_shape=SHAPE)
    path = ours.save(tmp_path / "small.wbz")
    assert path.stat().st_size == ours.nbytes
    loaded = wb.load_compressed(path, model=ARCHITECTURES[name]())
    images = torch.randn(2, *SHAPE)
    with torch.inference_mode():
        given = ours.module(images)
        assert torch.equal(loaded.module(images), given)
    assert torch.isfinite(given).all()


def test_later_steps_act_on_the_factors(module: nn.Module) -> None:
    text = "- factorize: {size: 0.5, layers: [fc1]}\n- quantize: {bits: 3, per: tensor, layers: [fc1]}"
    ours = compress(module, text, image_shape=SHAPE)
    for place in (0, 1):
        assert len(ours.tensors[f"fc1.{place}.weight"].unique()) <= 8
    figures = {layer.name: layer for layer in ours.layers}
    assert figures["fc1"].bits == 3
    assert figures["conv2"].bits == 32


def test_a_layer_that_would_grow_is_named_and_left(module: nn.Module) -> None:
    ours = compress(module, "- factorize: {rank: 10}", image_shape=SHAPE)
    assert set(ours.factors) == {"conv1", "conv2", "fc1"}  # fc2 would have 10 × 510 weights instead of 5,000
    grown = compress(module, "- factorize: {energy: 1.0}", image_shape=SHAPE)
    assert not grown.factors
    assert any("would not be smaller: conv1 (rank 20)" in note for note in grown.notes)
    assert torch.equal(grown.tensors["fc1.weight"], module.get_parameter("fc1.weight"))


def test_energy_keeps_at_least_its_share_and_not_one_value_more(module: nn.Module) -> None:
    ours = compress(module, "- factorize: {energy: 0.6, layers: [fc1]}", image_shape=SHAPE)
    values = torch.linalg.svdvals(module.get_parameter("fc1.weight").detach().double()) ** 2
    (rank,) = ours.factors["fc1"].ranks
    assert float(values[:rank].sum() / values.sum()) >= 0.6 > float(values[: rank - 1].sum() / values.sum())


def test_ranks_are_multiples_where_asked(module: nn.Module) -> None:
    ours = compress(module, "- factorize: {size: 0.5, multiple: 8}", image_shape=SHAPE)
    assert ours.factors
    assert all(rank % 8 == 0 for edit in ours.factors.values() for rank in edit.ranks)


def test_weighing_by_data_brings_the_outputs_nearer() -> None:
    data = load_dataset("fashion_mnist")
    model = wb.load_model("lenet5")
    normalize = model.normalization or data.normalization
    inputs = normalize(data["calibration"].images[256:320])
    original = model.module.get_submodule("conv1")
    with torch.inference_mode():
        entering = torch.max_pool2d(original(inputs), 2)
    errors = []
    for weighted in ("false", "true"):
        ours = wb.compress(model, f"- factorize: {{rank: 6, weighted: {weighted}, layers: [conv2]}}", data)
        layer, chain = model.module.get_submodule("conv2"), ours.module.get_submodule("conv2")
        with torch.inference_mode():
            errors.append(float((layer(entering) - chain(entering)).square().mean()))
    assert errors[1] < 0.9 * errors[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- factorize: {rank: 3, energy: 0.5}", "energy and rank each set the rank"),
        ("- factorize: {energy: 1.5}", "energy is 1.5"),
        ("- factorize: {rank: 0}", "rank is 0"),
    ],
)
def test_settings_that_contradict_are_told_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(WorkbenchError, match=message):
        wb.Recipe.parse(text)


def test_a_rank_above_the_full_one_is_refused(module: nn.Module) -> None:
    with pytest.raises(WorkbenchError, match="Rank 40 is above the full rank 20 of layer 'conv1'"):
        compress(module, "- factorize: {rank: 40}", image_shape=SHAPE)


def test_zero_weights_give_zero_factors() -> None:
    layer = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.zeros_(layer[1].weight)
    ours = compress(layer, "- factorize: {energy: 0.9}", image_shape=SHAPE)
    assert torch.equal(ours.tensors["1.weight"], torch.zeros(10, 784))
    assert ours.factors["1"].ranks == (1,)


def test_weighing_needs_data(module: nn.Module) -> None:
    with pytest.raises(WorkbenchError, match="needs calibration data"):
        compress(module, "- factorize: {weighted: true}", image_shape=SHAPE)


class Standardized(nn.Conv2d):
    """Runs with its weight standardized, as BiT does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(x, weight, self.bias)


class Halved(nn.Linear):
    """Made in a way of its own, run as any Linear."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width // 2)


class Peeking(nn.Module):
    """A layer whose weight is read past it, one that standardizes its own, and two plain ones."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.read, self.narrow, self.fc = (
            Standardized(1, 6, 5),
            nn.Linear(60, 60),
            Halved(60),
            nn.Linear(30, 9),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.conv(x).flatten(1)[:, :60])
        return self.fc(self.narrow(self.read(x) + torch.nn.functional.linear(x, self.read.weight)))


def test_layers_whose_weight_is_used_in_another_way_are_left_and_named() -> None:
    torch.manual_seed(0)
    module = Peeking().eval()
    ours = compress(module, "- factorize: {energy: 0.999}", image_shape=SHAPE)
    (note,) = [note for note in ours.notes if note.startswith("Not factorized")]
    assert "conv (a Standardized makes something of its weight first)" in note
    assert "read (the model does not run with factors in its place: 'Sequential' object has no attribute" in note
    half = compress(module, "- factorize: {rank: 9}", image_shape=SHAPE)
    assert set(half.factors) == {"narrow"}
    with torch.inference_mode():
        assert half.module(torch.rand(2, *SHAPE)).shape == (2, 9)
