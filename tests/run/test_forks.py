"""Variants that run from where they differ give the answers of the whole network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from workbench.compressed import input_grids
from workbench.compression import context_for, draft_for
from workbench.data.load import load_dataset
from workbench.models.load import load_model
from workbench.models.zoo import ARCHITECTURES
from workbench.recipe import Recipe
from workbench.run.forks import Branch, Forks
from workbench.run.onnx_export import export_graph
from workbench.run.onnx_graph import OnnxGraph
from workbench.run.runner import OnnxRunner
from workbench.subject import Subject
from workbench.techniques.draft import Draft

SHAPE = (1, 28, 28)


class Case:
    """One network with random weights, and the branches that recipes make of it."""

    def __init__(self, module: nn.Module) -> None:
        model = load_model(module)
        self.data = load_dataset("fashion_mnist")
        self.subject = Subject.of(model, SHAPE)
        self.context = context_for(model, self.data)
        self.graph: OnnxGraph = export_graph(model.module, SHAPE)
        self.forks = Forks(self.graph.build(self.subject.tensors))
        self.images = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))

    def draft(self, text: str) -> Draft:
        return draft_for(self.subject, Recipe.parse(text), self.context)

    def branch(self, draft: Draft) -> Branch:
        changed = [name for name in self.graph.names if draft.tensors[name] is not self.subject.tensors[name]]
        return self.forks.branch(self.graph.build(draft.tensors, input_grids(draft.edits), only=changed), changed)

    def forked(self, drafts: list[Draft]) -> list[NDArray[np.float32]]:
        branches = [self.branch(draft) for draft in drafts]
        values = {self.forks.input: self.images.numpy()}
        frontier = {name for branch in branches for name in self.forks.frontier(branch)}
        if frontier:
            values.update(self.forks.trunk(frontier).run(values))
        return list(self.forks.fork(branches).run(values))

    def whole(self, draft: Draft) -> NDArray[np.float32]:
        return OnnxRunner(self.graph.build(draft.tensors, input_grids(draft.edits))).logits(self.images)


@pytest.fixture(scope="module")
def resnet() -> Case:
    torch.manual_seed(0)
    return Case(ARCHITECTURES["resnet20"]().eval())


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_layers_variants_answer_as_the_whole_network(name: str) -> None:
    torch.manual_seed(0)
    case = Case(ARCHITECTURES[name]().eval())
    for layer in case.subject.layers[:: max(1, len(case.subject.layers) // 12)]:
        steps = (
            f"- prune: {{ratio: 0.5, layers: ['{layer.name}']}}",
            f"- quantize: {{bits: 3, layers: ['{layer.name}']}}",
        )
        drafts = [case.draft(step) for step in steps]
        for ours, draft in zip(case.forked(drafts), drafts, strict=True):
            np.testing.assert_allclose(ours, case.whole(draft), rtol=1e-4, atol=1e-5)


def test_a_branch_takes_what_other_branches_made_and_does_not_make_it_again(resnet: Case) -> None:
    branch = resnet.branch(resnet.draft("- prune: {ratio: 0.5, layers: [stage2.0.conv1]}"))
    read = branch.inputs
    assert "stage2.0.conv1.weight" in read
    assert "stage2.0.conv2.weight" in read
    assert not {"stage2.0.shortcut.0.weight", "stage1.2.conv2.weight", "conv1.weight"} & read
    assert len(resnet.forks.frontier(branch)) == 2  # what enters the block, and what its shortcut makes of it


def test_the_trunk_ends_where_the_last_variant_starts(resnet: Case) -> None:
    branch = resnet.branch(resnet.draft("- prune: {ratio: 0.5, layers: [stage1.0.conv2]}"))
    trunk = resnet.forks.trunk(resnet.forks.frontier(branch))
    assert trunk.nbytes < 0.1 * resnet.forks.fork([branch]).nbytes


def test_variants_of_a_layer_share_one_tail_and_layers_at_one_place_too(resnet: Case) -> None:
    resnet.forks.forget()
    for layer in ("stage3.0.conv2", "stage3.0.shortcut.0"):
        drafts = [resnet.draft(f"- prune: {{ratio: {ratio}, layers: ['{layer}']}}") for ratio in (0.2, 0.5, 0.8)]
        alone = resnet.forks.fork([resnet.branch(drafts[0])])
        together = resnet.forks.fork([resnet.branch(draft) for draft in drafts])
        assert together.nbytes < 1.5 * alone.nbytes
        assert alone._tails[0] is together._tails[2]
    assert len(resnet.forks._tails) == 1


def test_removed_channels_and_rounded_inputs_are_branches_too(resnet: Case) -> None:
    sliced = resnet.draft("- prune: {granularity: filter, ratio: 0.5, layers: [stage2.1.conv1]}")
    rounded = resnet.draft("- quantize: {bits: 8, activations: {bits: 8}, layers: [stage2.1.conv1]}")
    assert sliced.edits
    assert rounded.edits
    for draft in (sliced, rounded):
        (ours,) = resnet.forked([draft])
        np.testing.assert_allclose(ours, resnet.whole(draft), rtol=1e-4, atol=1e-4)
        assert "stage1.0.conv1.weight" not in resnet.branch(draft).inputs


def test_what_changes_nothing_has_no_branch(resnet: Case) -> None:
    branch = resnet.branch(resnet.draft("- prune: {ratio: 0.0}"))
    assert not branch.head
    assert not branch.tail
