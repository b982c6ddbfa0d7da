"""Every criterion ranks as its paper defines it, by brute force on small networks."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import workbench as wb
from workbench.compressed import CompressedModel
from workbench.data.dataset import Dataset, Normalization, Split
from workbench.errors import WorkbenchError

SHAPE = (2, 8, 8)


class Small(nn.Module):
    """Plain, strided and padded, grouped, depthwise and transposed convolutions, and two Linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(2, 8, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8)
        self.transposed = nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1)
        self.fc1 = nn.Linear(6, 12)
        self.fc2 = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(F.relu(self.plain(x)))
        x = self.transposed(F.relu(self.depthwise(x)))
        return self.fc2(F.relu(self.fc1(F.relu(x).mean((2, 3)))))


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


@pytest.fixture(scope="module")
def data() -> Dataset:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(48, *SHAPE, generator=generator)
    labels = torch.arange(48) % 4
    splits = {name: Split(name, images, labels) for name in ("train", "calibration", "test")}
    return Dataset("small", splits, ("a", "b", "c", "d"), Normalization((0.5, 0.4), (0.3, 0.2)))


def images_of(data: Dataset) -> tuple[Tensor, Tensor]:
    split = data["calibration"]
    return data.normalization(split.images), split.labels


def pruned(module: nn.Module, text: str, data: Dataset | None) -> CompressedModel:
    return wb.compress(module, text, data, image_shape=SHAPE)


def smallest(scores: dict[str, Tensor], ratio: float) -> dict[str, Tensor]:
    joined = torch.cat([score.flatten() for score in scores.values()])
    gone = torch.zeros(len(joined), dtype=torch.bool)
    gone[joined.argsort(stable=True)[: round(ratio * len(joined))]] = True
    parts = gone.split([score.numel() for score in scores.values()])
    return {name: part.view_as(score) for part, (name, score) in zip(parts, scores.items(), strict=True)}


def gradients(module: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    module.zero_grad()
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    F.cross_entropy(module(images), labels).backward()
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.ndim > 1}


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in module.named_parameters() if p.ndim > 1}


def check(ours: CompressedModel, expected: dict[str, Tensor]) -> None:
    for name, gone in expected.items():
        assert torch.equal(ours.tensors[name] == 0, gone), name


@pytest.mark.parametrize("ratio", [0.3, 0.7])
def test_taylor_is_gradient_times_weight(module: nn.Module, data: Dataset, ratio: float) -> None:
    images, labels = images_of(data)
    slopes = gradients(module, images, labels)
    scores = {name: (weight * slopes[name]).abs() for name, weight in weights(module).items()}
    check(pruned(module, f"- prune: {{criterion: taylor, ratio: {ratio}}}", data), smallest(scores, ratio))


def test_fisher_is_the_mean_square_of_each_images_own_gradient(module: nn.Module, data: Dataset) -> None:
    images, labels = images_of(data)
    squares: dict[str, Tensor] = {}
    for image, label in zip(images, labels, strict=True):
        for name, slope in gradients(module, image[None], label[None]).items():
            squares[name] = squares.get(name, torch.zeros(())) + slope.square() / len(images)
    scores = {name: weight.square() * squares[name] for name, weight in weights(module).items()}
    check(pruned(module, "- prune: {criterion: fisher, ratio: 0.4}", data), smallest(scores, 0.4))


@pytest.mark.parametrize("scope", ["row", "layer"])
def test_wanda_is_magnitude_times_the_norm_of_what_the_weight_multiplies(
    module: nn.Module, data: Dataset, scope: str
) -> None:
    inputs: dict[str, Tensor] = {}
    layers = dict(module.named_children())
    for name, layer in layers.items():
        layer.register_forward_pre_hook(lambda _, x, name=name: inputs.__setitem__(name, x[0].detach()))
    with torch.no_grad():
        module(images_of(data)[0])
    for layer in layers.values():
        layer._forward_pre_hooks.clear()
    ours = pruned(module, f"- prune: {{criterion: wanda, ratio: 0.5, scope: {scope}}}", data)
    for name, layer in layers.items():
        weight = layer.weight.detach()
        score = weight.abs() * _input_norms(layer, inputs[name])
        if scope == "row":
            rows = score.movedim(_output(layer), 0).flatten(1)
            count = round(0.5 * rows.shape[1])
            gone = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, rows.argsort(1)[:, :count], True)
            got = (ours.tensors[f"{name}.weight"] == 0).movedim(_output(layer), 0).flatten(1)
        else:
            gone = score <= score.flatten().sort().values[round(0.5 * score.numel()) - 1]
            got = ours.tensors[f"{name}.weight"] == 0
        assert torch.equal(got, gone), name


def _output(layer: nn.Module) -> int:
    return int(isinstance(layer, nn.ConvTranspose2d))


def _input_norms(layer: nn.Module, inputs: Tensor) -> Tensor:
    """One weight at a time: what the layer gives for squared inputs with that weight alone set to one."""
    norms = torch.zeros_like(layer.weight)
    if isinstance(layer, nn.Linear):
        return inputs.norm(dim=0).expand_as(layer.weight)
    kept, bias = layer.weight.data.clone(), layer.bias.data.clone()
    layer.bias.data.zero_()
    with torch.no_grad():
        for place in range(norms.numel()):
            layer.weight.data.zero_().view(-1)[place] = 1
            norms.view(-1)[place] = layer(inputs.square()).sum().sqrt()
    layer.weight.data.copy_(kept)
    layer.bias.data.copy_(bias)
    return norms


def test_random_takes_the_share_asked_for_and_repeats_by_its_seed(module: nn.Module) -> None:
    first, again, other = (
        pruned(module, f"- prune: {{criterion: random, ratio: 0.4, seed: {seed}}}", None) for seed in (1, 1, 2)
    )
    total = sum(weight.numel() for weight in weights(module).values())
    for made in (first, other):
        assert sum(int((made.tensors[name] == 0).sum()) for name in weights(module)) == round(0.4 * total)
    assert all(torch.equal(first.tensors[name], again.tensors[name]) for name in first.tensors)
    assert any(not torch.equal(first.tensors[name], other.tensors[name]) for name in first.tensors)


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "wanda"])
def test_criteria_that_look_at_data_say_so_when_there_are_none(module: nn.Module, criterion: str) -> None:
    recipe = wb.Recipe.parse(f"- prune: {{criterion: {criterion}}}")
    assert recipe.cost == "calibrated"
    with pytest.raises(WorkbenchError, match=f"Pruning by {criterion} needs calibration data"):
        pruned(module, recipe.to_yaml(), None)


def test_a_layer_whose_inputs_are_unknown_is_left_and_told(data: Dataset) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(16, 5, batch_first=True)
            self.fc = nn.Linear(5, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.lstm(x.transpose(1, 2).flatten(2))[0][:, -1])

    torch.manual_seed(0)
    model = Recurrent().eval()
    ours = pruned(model, "- prune: {criterion: wanda, ratio: 0.5}", data)
    assert torch.equal(ours.tensors["lstm.weight_ih_l0"], model.lstm.weight_ih_l0)
    assert int((ours.tensors["fc.weight"] == 0).sum()) == 10
    assert any("Left as they are: 'lstm'; wanda needs the inputs" in note for note in ours.notes)
    for criterion in ("taylor", "fisher"):
        ours = pruned(model, f"- prune: {{criterion: {criterion}, ratio: 0.5, layers: [lstm]}}", data)
        assert (
            int((ours.tensors["lstm.weight_ih_l0"] == 0).sum() + (ours.tensors["lstm.weight_hh_l0"] == 0).sum()) == 210
        )


def test_the_person_s_calibration_images_and_module_stay_as_they_are(module: nn.Module, data: Dataset) -> None:
    before = {name: value.clone() for name, value in module.state_dict().items()}
    seen = data["calibration"].images.clone()
    text = "- quantize: {bits: 8, activations: {}}\n- prune: {criterion: taylor, ratio: 0.5}"
    made = pruned(module, text, data)
    assert made.stored if hasattr(made, "stored") else made.codes  # pruning keeps the grid
    assert torch.equal(data["calibration"].images, seen)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize("criterion", ["magnitude", "random", "taylor", "fisher", "wanda"])
def test_packed_file_is_the_size_shown_and_reloads_bit_identical(
    module: nn.Module, data: Dataset, criterion: str, tmp_path: object
) -> None:
    ours = pruned(module, f"- prune: {{criterion: {criterion}, ratio: 0.6, floor: 0.1}}", data)
    path = ours.save(f"{tmp_path}/small.wbz")
    loaded = wb.load_compressed(path, model=module)
    assert path.stat().st_size == ours.nbytes == loaded.nbytes
    images, _ = images_of(data)
    with torch.no_grad():
        out = loaded.module(images)
    assert out.isfinite().all()
    assert torch.equal(out, ours.module(images))
