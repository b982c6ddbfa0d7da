"""The kernels of factorized models, planned without writing their weights again."""

from __future__ import annotations

import pytest
from torch import nn

from workbench.compression import compress_subject
from workbench.data.dataset import Normalization
from workbench.data.load import load_dataset
from workbench.graphs import Graphs
from workbench.kernels import PlannedKernels
from workbench.measure.latency import fused_kernels, read_graph
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.run.onnx_export import export_graph
from workbench.subject import Subject
from workbench.techniques.context import Context


@pytest.fixture(scope="module")
def subject() -> Subject:
    module = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 5), nn.Flatten(), nn.Linear(24 * 4, 10))
    return Subject.of(load_model(module.eval()), (1, 8, 8))


@pytest.fixture(scope="module")
def graphs(subject: Subject) -> Graphs:
    return Graphs(subject, lambda: export_graph(subject.model.module, subject.image_shape))


@pytest.mark.parametrize("scheme", ["svd", "tucker2", "tucker", "tt"])
def test_other_ranks_have_the_kernels_of_their_own_file(subject: Subject, graphs: Graphs, scheme: str) -> None:
    planned = PlannedKernels(subject, graphs, load_dataset("fashion_mnist"), Normalization((0.5,), (0.5,)), lambda: 16)
    for size in (0.3, 0.6):
        recipe = Recipe.parse(f"- factorize: {{scheme: {scheme}, size: {size}, layers: ['2']}}")
        compressed = compress_subject(subject, recipe, Context())
        graph = graphs.of(compressed)
        assert graph is not None
        file = graph.build(compressed.tensors)
        assert planned.of(compressed) == fused_kernels(read_graph(file), subject.image_shape, block=16)


def test_only_the_latest_structures_count_as_met(
    subject: Subject, graphs: Graphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.kernels.RECENT", 2)
    planned = PlannedKernels(subject, graphs, load_dataset("fashion_mnist"), Normalization((0.5,), (0.5,)), lambda: 16)
    recipes = (f"- factorize: {{size: {size}, layers: ['2']}}" for size in (0.2, 0.4, 0.6))
    first, *rest = (planned.of(compress_subject(subject, Recipe.parse(text), Context())) for text in recipes)
    assert set(planned.met()) == {kernel for kernels in rest for kernel in kernels}
    assert not set(first) <= set(planned.met())
