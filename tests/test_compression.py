"""What is shown as size is what is written; what is loaded is what was saved."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import workbench as wb
from tests.encodings.test_archive import forge
from workbench import compression
from workbench.compression import TOGETHER, compress_subject
from workbench.encodings import load_archive, together
from workbench.models.load import load_model
from workbench.models.zoo import ARCHITECTURES
from workbench.subject import Subject, model_hash
from workbench.techniques.context import Cache, Context

SHAPE = (1, 28, 28)
QUICK = ("lenet300", "lenet5", "resnet20")
RECIPES = (
    "[]",
    "- prune: {ratio: 0.5}",
    "- prune: {ratio: 0.9}\n- quantize: {bits: 4}",
    "- quantize: {bits: 3, scheme: symmetric, per: tensor}",
    "- quantize: {format: fp16}",
    "- quantize: {format: bf16}",
    "- prune: {granularity: filter, ratio: 0.5, scope: layer}\n- quantize: {bits: 8}",
    "- prune: {granularity: filter, ratio: 0.3}\n- quantize: {activations: {bits: 8}}\n- recalibrate: {images: 64}",
)


# images are run for the last of them, which takes deep models a quarter of a minute
@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param(text, name, marks=[pytest.mark.slow] if text == RECIPES[-1] and name not in QUICK else [])
        for text in RECIPES
        for name in sorted(ARCHITECTURES)
    ],
)
def test_size_is_the_files_and_the_reloaded_module_is_bit_identical(name: str, text: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = ARCHITECTURES[name]().eval()
    ours = wb.compress(module, wb.Recipe.parse(text), "fashion_mnist")
    path = ours.save(tmp_path / "small.wbz")
    assert path.stat().st_size == ours.nbytes
    loaded = wb.load_compressed(path, model=ARCHITECTURES[name]())
    assert loaded.recipe == ours.recipe
    assert loaded.nbytes == ours.nbytes
    images = torch.randn(3, *SHAPE)
    with torch.inference_mode():
        assert torch.equal(loaded.module(images), ours.module(images))
    assert all(torch.equal(value, ours.tensors[key]) for key, value in ours.module.state_dict().items())


def test_a_zoo_model_reloads_by_name_alone(tmp_path: Path) -> None:
    ours = wb.compress("lenet300", wb.Recipe.parse("- quantize: {bits: 4}"), image_shape=SHAPE)
    loaded = wb.load_compressed(ours.save(tmp_path / "small.wbz"))
    assert torch.equal(loaded.module.fc1.weight, ours.module.fc1.weight)


def test_a_users_architecture_must_be_given(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    path = wb.compress(module, "- prune: {}", image_shape=SHAPE).save(tmp_path / "mine.wbz")
    with pytest.raises(wb.WorkbenchError, match="give the architecture with model="):
        wb.load_compressed(path)
    with pytest.raises(wb.WorkbenchError, match="does not fit the architecture"):
        wb.load_compressed(path, model=nn.Sequential(nn.Flatten(), nn.Linear(784, 7)))
    assert wb.load_compressed(path, model=module).module(torch.zeros(1, *SHAPE)).shape == (1, 10)


def test_the_same_recipe_gives_the_same_bytes() -> None:
    text = "- prune: {ratio: 0.7}\n- quantize: {bits: 5}"
    first, second = (wb.compress("lenet300", text, image_shape=SHAPE).archive.to_bytes() for _ in range(2))
    assert first == second


def test_what_recipes_are_made_of_outlasts_what_they_made() -> None:
    subject = Subject.of(load_model("lenet300"), (1, 28, 28))
    weights = subject.dense_fp32_bytes
    context = Context(cache=Cache(4 * weights), encodings=Cache(weights))
    for ratio in range(10, 20):  # each makes most of a megabyte
        compress_subject(subject, wb.Recipe.parse(f"- prune: {{ratio: 0.{ratio}, scope: layer}}"), context)
    assert sum(key[0] == "ranked" for key in context.cache) == len(subject.layers)
    assert 0 < sum(key[0] == "encoding" for key in context.encodings) < 10 * len(subject.layers)


def test_what_a_full_cache_lets_go_is_not_encoded_tensor_by_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    subject, context = Subject.of(load_model("resnet20"), (1, 28, 28)), Context()
    recipe = wb.Recipe.parse("- prune: {granularity: filter, ratio: 0.3}\n- quantize: {bits: 4}")
    expected = compress_subject(subject, recipe, context).archive.to_bytes()
    batches: list[int] = []

    def counted(searches: Iterable[Any], *check: Callable[[], None]) -> list[Any]:
        found = together(searches, *check)
        batches.append(len(found))
        return found

    monkeypatch.setattr(compression, "together", counted)
    context.encodings = Cache(1)
    assert compress_subject(subject, recipe, context).archive.to_bytes() == expected
    assert len(batches) == math.ceil(sum(batches) / TOGETHER)


def test_the_archive_tells_its_recipe_and_edits(tmp_path: Path) -> None:
    text = "- prune: {granularity: filter, ratio: 0.5, scope: layer}"
    archive = load_archive(wb.compress("lenet5", text, image_shape=SHAPE).save(tmp_path / "a.wbz"))
    assert archive.recipe == wb.Recipe.parse(text).to_data()
    assert {edit["kind"] for edit in archive.edits} == {"slice"}
    assert archive.model["name"] == "lenet5"


def with_edit(**fields: object) -> Callable[[dict], None]:
    return lambda header: header["edits"].append(fields)


FORGED = {
    "recipe_5": lambda header: header.update(recipe=5),
    "recipe_of_numbers": lambda header: header.update(recipe=[5]),
    "edits_of_numbers": lambda header: header.update(edits=[5]),
    "no_layer": with_edit(kind="slice", side="out", keep=[0]),
    "layer_of_numbers": with_edit(kind="slice", layer=[1], side="out", keep=[0]),
    "keep_no_list": with_edit(kind="slice", layer="fc1", side="out", keep=5),
    "keep_of_words": with_edit(kind="slice", layer="fc1", side="out", keep=["a"]),
    "keep_negative": with_edit(kind="slice", layer="fc1", side="out", keep=[-1]),
    "keep_without_bounds": with_edit(kind="slice", layer="fc1", side="out", keep=[0] * 10_000),
    "another_side": with_edit(kind="slice", layer="fc1", side="up", keep=[0]),
    "ranks_without_bounds": with_edit(kind="factorize", layer="fc1", scheme="svd", ranks=[10**9]),
    "too_many_ranks": with_edit(kind="factorize", layer="fc1", scheme="svd", ranks=[2, 2]),
    "another_scheme": with_edit(kind="factorize", layer="fc1", scheme="up", ranks=[2]),
    "no_such_layer": with_edit(kind="factorize", layer="fc9", scheme="svd", ranks=[2]),
    "bits_no_number": with_edit(kind="quantize_input", layer="fc1", bits="x", scale=1.0, zero_point=0),
    "kind_no_word": with_edit(kind=["slice"], layer="fc1"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_file_is_told_in_one_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "forged.wbz"
    path.write_bytes(forge(wb.compress("lenet300", "[]", image_shape=SHAPE).archive.to_bytes(), FORGED[name]))
    with pytest.raises(wb.WorkbenchError) as caught:
        wb.load_compressed(path)
    assert "\n" not in str(caught.value)


def test_layer_figures_add_up() -> None:
    ours = wb.compress("lenet5", "- prune: {ratio: 0.5}\n- quantize: {bits: 4}", image_shape=SHAPE)
    assert sum(layer.params for layer in ours.layers) == 431_080
    zeros = sum(layer.sparsity * layer.params for layer in ours.layers)
    assert zeros == pytest.approx(0.5 * 431_080, rel=0.08)
    assert sum(layer.bytes for layer in ours.layers) <= ours.nbytes


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.out = nn.MultiheadAttention(28, 2, batch_first=True), nn.Linear(28, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.attention(x[:, 0], x[:, 0], x[:, 0])[0].mean(1))


def test_an_attentions_row_has_all_its_tensors() -> None:
    subject = Subject.of(load_model(Attending().eval()), SHAPE)
    parts = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    assert set(subject.own_tensors["attention"]) == {f"attention.{part}" for part in parts}
    assert set(subject.own_tensors["out"]) == {"out.weight", "out.bias"}


def test_macs_follow_removed_channels() -> None:
    dense = wb.compress("lenet5", "[]", image_shape=SHAPE)
    text = "- prune: {granularity: filter, ratio: 0.5, scope: layer, multiple: 2}"
    half = wb.compress("lenet5", text, image_shape=SHAPE)
    macs = [{layer.name: layer.macs for layer in item.layers} for item in (dense, half)]
    assert macs[1]["conv1"] == macs[0]["conv1"] / 2
    assert macs[1]["fc2"] == macs[0]["fc2"] / 2


def test_weight_summaries_draw_threshold_and_grid() -> None:
    ours = wb.compress("lenet300", "- prune: {ratio: 0.5}\n- quantize: {bits: 3, per: tensor}", image_shape=SHAPE)
    summary = ours.summarize("fc1", bins=32)
    assert summary.edges.shape == (33,)
    assert int(summary.before.sum()) == 300 * 784
    kept = int((ours.tensors["fc1.weight"] != 0).sum())
    assert int(summary.after.sum()) == kept
    assert summary.sparsity == pytest.approx(1 - kept / (300 * 784))
    assert set(ours.tensors["fc1.weight"].unique().tolist()) <= set(summary.grid.tolist())
    assert summary.threshold is not None
    assert summary.bits == 3
    with pytest.raises(wb.WorkbenchError, match="There is no layer 'fc9'"):
        ours.summarize("fc9")


def test_model_hash_follows_weights_and_architecture() -> None:
    torch.manual_seed(0)
    module = ARCHITECTURES["lenet300"]()
    before = model_hash(module)
    assert before == model_hash(module)
    module.fc3.bias.data[0] += 1
    assert model_hash(module) != before


def test_an_unknown_image_shape_is_said() -> None:
    with pytest.raises(wb.WorkbenchError, match="image shape"):
        wb.compress(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "- prune: {}")
