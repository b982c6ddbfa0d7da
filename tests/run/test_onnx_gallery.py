"""What runs in ONNX Runtime computes what PyTorch does, on awkward architectures too, or PyTorch runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from tests.gallery import CLASSES, CLASSIFIERS, SHAPE, build
from workbench.compression import compress_subject, context_for
from workbench.evaluation import Evaluator
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
def test_the_evaluator_answers_as_the_module_does(name: str, data: wb.Dataset) -> None:
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
