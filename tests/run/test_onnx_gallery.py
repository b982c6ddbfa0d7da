"""What runs in ONNX Runtime computes what PyTorch does, on awkward architectures too, or PyTorch runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from tests.gallery import CLASSES, CLASSIFIERS, SHAPE, build
from workbench.compression import compress_subject, context_for
from workbench.evaluation import Evaluator
from workbench.int8 import write_int8
from workbench.measure.latency.measured import open_session
from workbench.recipe import Recipe
from workbench.run.runner import TorchRunner
from workbench.subject import Subject

#: Models that neither exporter can express, that fix the batch size, or that take another way for other values.
NOT_EXPORTED = {"embedding", "control_flow", "projected", "bare_parameter"}
RECIPES = (
    "- prune: {ratio: 0.5}\n- quantize: {bits: 8}",
    "- prune: {granularity: filter, ratio: 0.5, scope: layer, multiple: 1}",
    "- quantize: {bits: 8, activations: {bits: 8}}",
)


@pytest.fixture(scope="module")
def data() -> wb.Dataset:
    generator = np.random.default_rng(0)
    images = generator.random((96, *SHAPE), np.float32)
    return wb.load_dataset((images, generator.permutation(96) % CLASSES))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_evaluator_answers_as_the_module_does(
    name: str, data: wb.Dataset, capfd: pytest.CaptureFixture[str]
) -> None:
    model = wb.load_model(build(name))
    subject, context = Subject.of(model, SHAPE), context_for(model, data)
    normalization = model.normalization or data.normalization
    evaluator = Evaluator(subject, data.splits["test"], normalization)
    images = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0))
    for text in RECIPES:
        compressed = compress_subject(subject, Recipe.parse(text), context)
        evaluator.runner(compressed)
        evaluator.confirm(compressed)
        runner = evaluator.runner(compressed)
        expected = TorchRunner(compressed.fresh_module()).logits(images)
        ours = runner.logits(images)
        # a value on the edge of two steps may round either way
        loose = 0.05 if compressed.grids else 1e-4
        assert float(np.abs(ours - expected).max()) <= loose * max(1.0, float(np.abs(expected).max())), text
    assert (evaluator.runtime == "torch") == (name in NOT_EXPORTED), evaluator.why_torch
    assert capfd.readouterr().out == "", "stdout is for what commands answer"


@pytest.mark.parametrize("name", ["transposed", "depth_multiplier", "conv3d"])
def test_the_int8_file_answers_as_its_simulation_does(name: str, data: wb.Dataset) -> None:
    model = wb.load_model(build(name))
    subject, context = Subject.of(model, SHAPE), context_for(model, data)
    normalization = model.normalization or data.normalization
    compressed = compress_subject(subject, Recipe.parse(RECIPES[-1]), context)
    graph = Evaluator(subject, data.splits["test"], normalization).graphs.of(compressed)
    assert graph is not None
    images = normalization(data.splits["test"].images)
    session = open_session(write_int8(graph, compressed, images))
    (ours,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    expected = compressed.fresh_module()(images).detach().numpy()
    assert float(np.abs(ours - expected).max()) <= 0.01 * float(np.abs(expected).max())
