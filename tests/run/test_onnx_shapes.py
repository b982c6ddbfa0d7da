"""Sizes written into graphs whose code asks for shapes, and what stays open: the batch and pruned channels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.compression import compress_subject, context_for
from workbench.models.load import load_model
from workbench.run.onnx_export import export_graph
from workbench.run.onnx_graph import OnnxGraph
from workbench.subject import Subject

IMAGE = (3, 8, 8)
#: What only serves to compute shapes.
COMPUTING = {"Shape", "Gather", "Unsqueeze", "Constant", "Slice", "Div", "Cast"}


def operators(graph: OnnxGraph) -> Counter[str]:
    return Counter(node.op_type for node in graph._skeleton.graph.node)


def answers_alike(graph: OnnxGraph, module: nn.Module, tensors: Mapping[str, Tensor], image: tuple[int, ...]) -> None:
    session = ort.InferenceSession(graph.build(tensors).SerializeToString(), providers=["CPUExecutionProvider"])
    for count in (1, 3):
        images = torch.rand(count, *image, generator=torch.Generator().manual_seed(count))
        (found,) = session.run(None, {"input": images.numpy()})
        with torch.inference_mode():
            np.testing.assert_allclose(found, module(images).numpy(), atol=1e-4)


def test_a_channel_shuffle_computes_no_shapes_and_follows_pruned_channels() -> None:
    model = load_model("shufflenetv2")
    image = (1, 28, 28)
    subject = Subject.of(model, image)
    graph = export_graph(model.module, image)
    found = operators(graph)
    assert not COMPUTING & found.keys()
    assert found["Split"] == 13
    assert found["Reshape"] == 2 * found["Transpose"]
    answers_alike(graph, model.module, subject.tensors, image)
    data = wb.load_dataset("fashion_mnist")
    recipe = wb.Recipe.parse("- prune: {granularity: filter, ratio: 0.5}")
    pruned = compress_subject(subject, recipe, context_for(model, data))
    assert pruned.tensors["stem.0.weight"].shape != subject.tensors["stem.0.weight"].shape
    answers_alike(graph, pruned.module, pruned.tensors, image)


class Asking(nn.Module):
    """Asks for shapes in ways of which some say nothing but the batch and the image's sizes."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        n, c, h, w = x.shape
        if self.way == "flat":
            x = x.reshape(n, c, h * w).mean(2)
        elif self.way == "batch and channels":
            x = x.reshape(n * c, h * w).mean(1).reshape(n, c)
        elif self.way == "halves":
            first, second = x.chunk(2, 1)
            x = torch.cat((second, first), 1).mean((2, 3))
        elif self.way == "uneven":
            x = torch.cat((x[:, : c // 3], x[:, c // 3 :]), 1).mean((2, 3))
        elif self.way == "rows":
            x = x.permute(0, 2, 3, 1).reshape(n, h, w * c).reshape(n, h * w, c).mean(1)
        logits: Tensor = self.fc(x)
        return logits


@pytest.mark.parametrize(
    ("way", "computes"),
    [("flat", False), ("batch and channels", True), ("halves", False), ("uneven", True), ("rows", False)],
)
def test_only_what_neither_batch_nor_channels_decide_is_written(way: str, computes: bool) -> None:
    torch.manual_seed(0)
    module = Asking(way).eval()
    graph = export_graph(module, IMAGE)
    assert ("Shape" in operators(graph)) == computes
    answers_alike(graph, module, dict(module.state_dict()), IMAGE)
    smaller = Asking(way).eval()  # of its channels, as after pruning
    smaller.conv, smaller.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 4)
    answers_alike(graph, smaller, dict(smaller.state_dict()), IMAGE)


class Untraceable(nn.Module):
    """Means of quarters behind a reflected border, which the tracing exporter cannot write, and a gate."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, channels, 3, padding=1, padding_mode="reflect")
        self.gate = nn.Linear(channels, channels)
        self.quarters = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(4 * channels, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = x * self.gate(x.mean((2, 3))).sigmoid().view(x.size(0), x.size(1), 1, 1)
        logits: Tensor = self.fc(self.quarters(x).flatten(1))
        return logits


def test_counts_of_channels_that_the_other_exporter_writes_follow_pruned_ones() -> None:
    torch.manual_seed(0)
    module, smaller = Untraceable(6).eval(), Untraceable(4).eval()
    graph = export_graph(module, IMAGE)
    answers_alike(graph, module, dict(module.state_dict()), IMAGE)
    answers_alike(graph, smaller, dict(smaller.state_dict()), IMAGE)
