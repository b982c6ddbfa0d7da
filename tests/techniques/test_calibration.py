"""Splits are often sorted by class: whatever is calibrated sees all classes all the same."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from workbench.compression import compress_subject
from workbench.data.dataset import Dataset, Normalization, Split
from workbench.graphs import Graphs
from workbench.latency import LatencyEstimator
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.run.onnx_export import export_graph
from workbench.subject import Subject
from workbench.techniques import TECHNIQUES
from workbench.techniques.base import Cost
from workbench.techniques.context import Context

CLASSES, EACH, SHAPE = 10, 60, (1, 8, 8)
CALIBRATED = [
    text
    for technique in TECHNIQUES.values()
    for text in technique.examples
    if any(step.cost is Cost.CALIBRATED for step in Recipe.parse(text).steps)
    and ("method: product" not in text or "weighted: true" in text)  # takes its time, and looks at no images
]
SEEN: set[int] = set()


class Watched(Normalization):
    """A normalisation that notes in ``SEEN`` which classes pass: an image's first pixel is its class."""

    def __call__(self, images: Tensor) -> Tensor:
        SEEN.update(images[:, 0, 0, 0].int().tolist())
        return images / CLASSES


@pytest.fixture
def split() -> Split:
    SEEN.clear()
    labels = torch.arange(CLASSES).repeat_interleave(EACH)
    images = torch.rand(len(labels), *SHAPE, generator=torch.Generator().manual_seed(0))
    images[:, 0, 0, 0] = labels.float()
    return Split("calibration", images, labels)


@pytest.fixture(scope="module")
def subject() -> Subject:
    torch.manual_seed(0)
    hidden = nn.Sequential(nn.Linear(288, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
    head = nn.Sequential(nn.Flatten(), hidden, nn.Linear(64, CLASSES))
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), *head).eval()
    return Subject.of(load_model(module), SHAPE)


@pytest.mark.parametrize("text", CALIBRATED)
def test_every_calibrated_step_sees_all_classes_of_a_sorted_split(text: str, subject: Subject, split: Split) -> None:
    compress_subject(subject, Recipe.parse(text), Context(split, Watched((0,), (1,))))
    assert set(range(CLASSES)) == SEEN


def test_the_int8_file_is_calibrated_on_all_classes(subject: Subject, split: Split) -> None:
    normalization = Watched((0,), (1,))
    data = Dataset("sorted", {"calibration": split}, tuple("abcdefghij"), normalization)
    recipe = Recipe.parse("- quantize: {bits: 8, activations: {bits: 8}}")
    compressed = compress_subject(subject, recipe, Context(split, normalization))
    SEEN.clear()
    graphs = Graphs(subject, lambda: export_graph(subject.model.module, SHAPE))
    LatencyEstimator(subject, graphs, data, normalization).file(compressed)
    assert set(range(CLASSES)) == SEEN
