"""Channels are removed together and soundly, in architectures where that is awkward."""

from __future__ import annotations

import copy
import io
import warnings
from pathlib import Path

import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import workbench as wb
from workbench.compressed import CompressedModel
from workbench.models.channels import slices_of, trace_channels
from workbench.models.layers import layers_of
from workbench.models.probing import probe_channels

SHAPE = (1, 28, 28)


class Concat(nn.Module):
    """Two branches are read apart and together."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 8, 3, padding=1)
        self.b = nn.Conv2d(1, 12, 3, padding=1)
        self.c = nn.Conv2d(20, 16, 3, padding=1)
        self.d = nn.Conv2d(28, 8, 1)
        self.fc = nn.Linear(8 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.relu(self.a(x)), F.relu(self.b(x))
        c = F.relu(self.c(torch.cat([a, b], 1)))
        return self.fc(F.adaptive_avg_pool2d(self.d(torch.cat([c, b], 1)), 2).flatten(1))


class Grouped(nn.Module):
    """A grouped convolution, followed by a depthwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 16, 3)
        self.g = nn.Conv2d(16, 24, 3, groups=4)
        self.bn = nn.BatchNorm2d(24)
        self.d = nn.Conv2d(24, 24, 3, groups=24, padding=1)
        self.c = nn.Conv2d(24, 8, 1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.g(F.relu(self.a(x)))))
        return self.fc(self.c(self.d(x)).mean((2, 3)))


class Unit(nn.Module):
    def __init__(self, half: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 1), nn.BatchNorm2d(half), nn.ReLU(),
            nn.Conv2d(half, half, 3, padding=1, groups=half), nn.BatchNorm2d(half),
            nn.Conv2d(half, half, 1), nn.BatchNorm2d(half), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        x = torch.cat([left, self.branch(right)], 1)
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class Shuffle(nn.Module):
    """ShuffleNetV2's unit: chunk, concat and a channel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, padding=1)
        self.units = nn.Sequential(Unit(8), Unit(8))
        self.head = nn.Conv2d(16, 32, 1)
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.head(self.units(F.relu(self.stem(x))))).mean((2, 3)))


class Split(nn.Module):
    """Channels are split at a fixed place."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 16, 3)
        self.b = nn.Conv2d(6, 8, 1)
        self.c = nn.Conv2d(10, 8, 1)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.split(F.relu(self.a(x)), [6, 10], 1)
        return self.fc((self.b(left) + self.c(right)).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp1, self.mlp2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, -1))
        return x + self.mlp2(F.gelu(self.mlp1(self.norm2(x))))


class Transformer(nn.Module):
    """Hand-written attention over patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 16, 7, stride=7)
        self.blocks = nn.Sequential(Attention(), Attention())
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.blocks(self.patch(x).flatten(2).transpose(1, 2)).mean(1))


class Upsampling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 16, 3, stride=2)
        self.up = nn.ConvTranspose2d(16, 8, 3, stride=2)
        self.b = nn.Conv2d(8, 8, 3)
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.b(F.relu(self.up(F.relu(self.a(x)))))).mean((2, 3)))


class Rows(nn.Module):
    """An LSTM over image rows, between Linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(28, 16)
        self.lstm = nn.LSTM(16, 24, batch_first=True)
        self.hidden = nn.Linear(24, 16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.hidden(self.lstm(F.relu(self.embed(x.squeeze(1))))[0][:, -1])))


#: Architecture -> layers whose outputs are removed at 50 %.
PRUNED = {
    Concat: {"a", "b", "c", "d"},
    Grouped: {"a", "g", "d", "c"},
    Shuffle: {"units.0.branch.0", "units.0.branch.3", "units.1.branch.0", "units.1.branch.3", "head"},
    Split: {"b", "c"},
    Transformer: {"blocks.0.mlp1", "blocks.1.mlp1"},
    Upsampling: {"a", "up", "b"},
    Rows: {"embed", "hidden"},
}


def build(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind().eval()


def halved(module: nn.Module) -> CompressedModel:
    text = "- prune: {granularity: filter, ratio: 0.5, scope: layer, multiple: 1}"
    return wb.compress(module, text, image_shape=SHAPE)


def images() -> Tensor:
    return torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", PRUNED)
def test_half_of_the_channels_goes_and_the_answers_are_those_with_the_channels_zeroed(kind: type[nn.Module]) -> None:
    module = build(kind)
    ours = halved(module)
    before = {layer.name: layer for layer in layers_of(module, SHAPE)}
    narrower = {
        layer.name
        for layer in ours.layers
        if layer.shape[int(layer.type == "ConvTranspose2d")]
        < before[layer.name].shape[int(layer.type == "ConvTranspose2d")]
    }
    assert narrower == PRUNED[kind]
    masked = copy.deepcopy(module)
    for edit in ours.edits:
        layer = masked.get_submodule(edit.layer)
        if edit.side == "in":
            weight = layer.weight_ih_l0 if isinstance(layer, nn.LSTM) else layer.weight
            axis = 0 if isinstance(layer, nn.ConvTranspose2d) else 1
            gone = [place for place in range(weight.shape[axis]) if place not in edit.keep]
            weight.data.movedim(axis, 0)[gone] = 0
    with torch.no_grad():
        torch.testing.assert_close(ours.module(images()), masked(images()), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", PRUNED)
def test_macs_fall_as_foreseen_and_the_exported_model_answers_alike(kind: type[nn.Module], tmp_path: Path) -> None:
    module = build(kind)
    ours = halved(module)
    counted = {layer.name: layer.macs for layer in layers_of(ours.module, SHAPE)}
    foreseen = {layer.name: layer.macs for layer in ours.layers if layer.type != "LSTM"}
    assert foreseen == {name: counted[name] for name in foreseen}
    assert sum(foreseen.values()) < sum(layer.macs for layer in layers_of(module, SHAPE) if layer.name in foreseen)
    path = ours.save(tmp_path / "half.wbz")
    assert path.stat().st_size == ours.nbytes
    loaded = wb.load_compressed(path, model=module).module
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(loaded, (images(),), buffer, dynamo=False, input_names=["x"])
    runtime = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    (theirs,) = runtime.run(None, {"x": images().numpy()})
    with torch.no_grad():
        assert torch.equal(loaded(images()), ours.module(images()))
        torch.testing.assert_close(ours.module(images()), torch.from_numpy(theirs), rtol=1e-4, atol=1e-5)


COUNTED = [(Split, "a"), (Transformer, "blocks.0.qkv"), (Shuffle, "units.1.branch.5")]


@pytest.mark.parametrize(("kind", "layer"), COUNTED)
def test_channels_that_are_counted_are_refused_with_the_reason(kind: type[nn.Module], layer: str) -> None:
    reason = trace_channels(build(kind), SHAPE).refused[layer]
    assert any(words in reason for words in ("does not run", "changes what the others", "fewer channels"))


def test_two_groups_that_meet_in_a_concatenation_make_one_edit_of_its_reader() -> None:
    groups = {group.name: group for group in trace_channels(build(Concat), SHAPE).groups}
    kept = {"a": [0, 3], "b": [1, 2, 11]}
    flags = [
        (groups[name], torch.zeros(groups[name].size, dtype=torch.bool).index_fill(0, torch.tensor(keep), True))
        for name, keep in kept.items()
    ]
    edits = {(edit.layer, edit.side): edit.keep for edit in slices_of(flags)}
    assert edits["c", "in"] == (0, 3, 9, 10, 19)
    assert edits["d", "in"] == (*range(16), 17, 18, 27)


class Gated(nn.Module):
    """The halves of one layer's outputs are multiplied."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Linear(784, 24)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.expand(x.flatten(1)).chunk(2, 1)
        return self.fc(value * gate.sigmoid())


def test_chunks_that_are_multiplied_keep_the_same_places() -> None:
    ours = halved(build(Gated))
    kept = {(edit.layer, edit.side): edit.keep for edit in ours.edits}
    assert kept["expand", "out"] == (*kept["fc", "in"], *(12 + place for place in kept["fc", "in"]))
    assert len(kept["fc", "in"]) == 6


def test_every_group_of_a_grouped_convolution_keeps_the_same_places() -> None:
    ours = halved(build(Grouped))
    kept = {(edit.layer, edit.side): edit.keep for edit in ours.edits}
    for side, width in (("in", 4), ("out", 6)):
        places = [{place - start for place in kept["g", side] if start <= place < start + width}
                  for start in range(0, 4 * width, width)]  # fmt: skip
        assert all(part == places[0] for part in places)
    assert ours.module.g.groups == 4


@pytest.mark.parametrize("kind", [Concat, Grouped, Shuffle, Upsampling])
def test_probing_finds_the_groups_that_the_dependency_graph_has(kind: type[nn.Module]) -> None:
    module = build(kind)
    probed, refused = probe_channels(module, SHAPE)
    groups = {frozenset((member.layer, member.side) for member in group.members): group for group in probed}
    for group in trace_channels(module, SHAPE).groups:
        same = groups[frozenset((member.layer, member.side) for member in group.members)]
        assert same.size == group.size
        expected = {(member.layer, member.side): member.channel for member in group.members}
        assert {(member.layer, member.side): member.channel for member in same.members} == expected
    assert refused == {"fc": "its channels are the model's outputs"}


class Strided(nn.Module):
    """ShuffleNetV2's unit of stride 2 and its next: more than the dependency graph's tracer can take."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 6, 3, 2, 1)
        self.left = nn.Sequential(nn.Conv2d(6, 6, 3, 2, 1, groups=6), nn.Conv2d(6, 8, 1), nn.ReLU())
        self.right = nn.Sequential(nn.Conv2d(6, 10, 1), nn.ReLU(), nn.Conv2d(10, 8, 3, 2, 1), nn.ReLU())
        self.unit = Unit(8)
        self.head = nn.Conv2d(16, 12, 1)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = torch.cat((self.left(x), self.right(x)), 1)
        n, c, h, w = x.shape
        x = self.unit(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))
        return self.fc(F.relu(self.head(x)).mean((2, 3)))


def test_what_cannot_be_traced_is_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch_pruning as tp

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tp.DependencyGraph, "build_dependency", fail)
    module = build(Strided)
    ours = halved(module)
    before = {layer.name: layer.shape[0] for layer in layers_of(module, SHAPE)}
    narrower = {layer.name for layer in ours.layers if layer.shape[0] < before[layer.name]}
    assert narrower == {"stem", "left.0", "right.0", "unit.branch.0", "unit.branch.3", "head"}
    masked = copy.deepcopy(module)
    for edit in ours.edits:
        if edit.side == "in":
            weight = masked.get_submodule(edit.layer).weight
            weight.data[:, [place for place in range(weight.shape[1]) if place not in edit.keep]] = 0
    with torch.no_grad():
        torch.testing.assert_close(ours.module(images()), masked(images()), rtol=1e-4, atol=1e-5)


def test_what_can_be_neither_traced_nor_probed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch_pruning as tp

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(tp.DependencyGraph, "build_dependency", fail)
    graph = trace_channels(build(Rows), SHAPE)
    assert not graph.groups
    assert graph.refused == {"*": "its channels could not be traced (layer 'lstm' is called twice, or gives no tensor)"}
