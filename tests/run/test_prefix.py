"""What runs behind a cut gives the answers of the whole network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from workbench.compression import compress_subject, context_for
from workbench.data.load import load_dataset
from workbench.evaluation import Evaluator
from workbench.models.load import load_model
from workbench.models.zoo import ARCHITECTURES
from workbench.recipe import Recipe
from workbench.run.onnx_export import export_graph
from workbench.run.prefix import Prefix, PrefixRunner, deepest_shared, split_at
from workbench.run.runner import OnnxRunner
from workbench.subject import Subject

SHAPE = (1, 28, 28)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_cut_splits_into_two_that_compose(name: str) -> None:
    torch.manual_seed(0)
    module = ARCHITECTURES[name]().eval()
    graph = export_graph(module, SHAPE)
    model = graph.build(module.state_dict())
    images = torch.randn(3, *SHAPE)
    expected = OnnxRunner(model).logits(images)
    assert len(graph.cuts) >= 3
    for cut in graph.cuts[:: max(1, len(graph.cuts) // 8)]:
        head, tail = (OnnxRunner(part) for part in split_at(model, cut))
        np.testing.assert_allclose(tail.run(head.logits(images))[0], expected, rtol=1e-4, atol=1e-5)


def test_no_cut_lies_inside_a_residual_block() -> None:
    module = ARCHITECTURES["resnet20"]().eval()
    cuts = export_graph(module, SHAPE).cuts
    inside = [cut for cut in cuts if "stage1.0.conv1.weight" in cut.before]
    assert all("stage1.0.conv2.weight" in cut.before for cut in inside)


def test_kept_activations_are_used_again() -> None:
    module = ARCHITECTURES["lenet5"]().eval()
    graph = export_graph(module, SHAPE)
    prefix = Prefix(("key",), graph.cuts[2])
    images = torch.randn(4, *SHAPE)
    first = PrefixRunner(graph.build(module.state_dict()), prefix).logits(images, 0)
    again = PrefixRunner(graph.build(module.state_dict()), prefix).logits(torch.full_like(images, 9.0), 0)
    assert np.array_equal(first, again)


def test_a_shared_prefix_ends_before_the_first_change() -> None:
    cuts = export_graph(ARCHITECTURES["resnet20"]().eval(), SHAPE).cuts
    names = {name for cut in cuts for name in cut.before}
    before = dict.fromkeys(names, "a")
    after = {**before, "stage3.0.conv1.weight": "b"}
    work = dict.fromkeys(names, 1)
    shared = deepest_shared(cuts, before, after, work)
    assert shared is not None
    assert "stage2.2.conv2.weight" in shared.before
    assert "stage3.0.conv1.weight" not in shared.before
    assert deepest_shared(cuts, before, {**before, "conv1.weight": "b"}, work) is None


def test_single_layer_edits_give_the_figures_of_a_whole_run() -> None:
    torch.manual_seed(0)
    model, data = load_model(ARCHITECTURES["lenet5"]()), load_dataset("fashion_mnist")
    subject, context = Subject.of(model, SHAPE), context_for(model, data)
    reusing = Evaluator(subject, data["validation"], data.normalization)
    for ratio in (0.2, 0.5, 0.8):
        for text in (
            f"- prune: {{ratio: {ratio}, layers: [fc2]}}",
            f"- quantize: {{bits: 4, layers: [fc1]}}\n- prune: {{ratio: {ratio}, layers: [fc2]}}",
        ):
            found = compress_subject(subject, Recipe.parse(text), context)
            runner = reusing.runner(found)
            whole = Evaluator(subject, data["validation"], data.normalization)
            ours = np.concatenate([*reusing.batches(runner, 0, 256)])
            theirs = np.concatenate([*whole.batches(whole.runner(found), 0, 256)])
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert isinstance(runner, PrefixRunner)


@pytest.mark.parametrize("kind", ["gru", pytest.param("attention", marks=pytest.mark.slow)])
def test_another_grid_of_an_input_is_a_change_whatever_the_weights_are_called(kind: str) -> None:
    """A recurrent layer and attention have no tensor named ``weight``."""
    torch.manual_seed(0)
    model, data = load_model(_Rows(kind)), load_dataset("fashion_mnist")
    subject, context = Subject.of(model, SHAPE), context_for(model, data)
    reusing = Evaluator(subject, data["validation"], data.normalization)
    step = "- quantize: {bits: 8, activations: {bits: 8}, overrides: {rows: {activations: {bits: %d}}}}"
    for bits in (8, 8, 4):  # the second run keeps what the first two share
        found = compress_subject(subject, Recipe.parse(step % bits), context)
        ours = np.concatenate([*reusing.batches(reusing.runner(found), 0, 64)])
        theirs = np.concatenate([*reusing.batches(reusing.free_runner(found), 0, 64)])
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_no_cut_lies_where_a_model_counts() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 8, 3), _Loudest(), nn.Embedding(8, 4), _Mean(), nn.Linear(4, 10)).eval()
    graph = export_graph(module, SHAPE)
    model = graph.build(module.state_dict())
    images = torch.randn(3, *SHAPE)
    expected = OnnxRunner(model).logits(images)
    assert {frozenset({"0.weight", "0.bias"}), frozenset({"0.weight", "0.bias", "2.weight"})} <= {
        cut.before for cut in graph.cuts
    }
    for cut in graph.cuts:
        head, tail = (OnnxRunner(part) for part in split_at(model, cut))
        np.testing.assert_allclose(tail.run(head.logits(images))[0], expected, rtol=1e-4, atol=1e-5)


class _Loudest(nn.Module):
    """The channel that is largest, of each place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.argmax(1).flatten(1)


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(1)


class _Rows(nn.Module):
    """The rows of an image one after the other, then a layer behind which little is left to do."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.attends = kind == "attention"
        self.rows: nn.Module = (
            nn.MultiheadAttention(28, 4, batch_first=True) if self.attends else nn.GRU(28, 28, batch_first=True)
        )
        self.fc = nn.Linear(28, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, 0]
        x = self.rows(x, x, x, need_weights=False)[0] if self.attends else self.rows(x)[0]
        result: torch.Tensor = self.fc(x.mean(1))
        return result
