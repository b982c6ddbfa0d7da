"""Latency of attention and recurrent layers: kernels read off a run, times learned from the graph itself."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.bench.slicing import export_zoo
from workbench.compression import compress_subject, context_for
from workbench.evaluation import Evaluator
from workbench.latency import LatencyEstimator
from workbench.measure.latency import fused_kernels, kernel_times, seen_kernels
from workbench.measure.latency.signature import CONVOLUTIONS, place
from workbench.measure.latency.table import KernelTable, find_block, open_table
from workbench.models.zoo import RowLSTM, ViT
from workbench.recipe import Recipe
from workbench.run.onnx_export import export_graph
from workbench.run.qdq import export_int8
from workbench.subject import Subject

SHAPE = (1, 8, 8)


class Small(nn.Module):
    """A block of the zoo's ViT over rows, and an LSTM behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.vit = ViT(size=8, width=16, depth=1, heads=4)
        self.lstm = nn.LSTM(10, 8, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.vit(x)[:, None] + x.flatten(1)[:, None, :10]
        logits: Tensor = self.fc(self.lstm(rows.expand(-1, 4, -1))[0][:, -1])
        return logits


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> KernelTable:
    return open_table(Path(tmp_path_factory.mktemp("devices")))


@pytest.fixture(scope="module")
def data() -> wb.Dataset:
    images = torch.rand(64, *SHAPE, generator=torch.Generator().manual_seed(0))
    return wb.load_dataset((images.numpy(), (torch.arange(64) % 3).numpy()))


def test_products_and_recurrent_layers_are_read_with_their_sizes():
    torch.manual_seed(0)
    module = ViT(size=28).eval()
    kernels = seen_kernels(export_graph(module, (1, 28, 28)).build(module.state_dict()), (1, 28, 28))
    products = [(k.inputs, k.outputs, k.batch) for k in kernels if k.type in ("MatMul", "Gemm")]
    assert sorted(products) == sorted([(64, 192, 50), (64, 64, 50), (64, 128, 50), (128, 64, 50)] * 4 + [(64, 10, 1)])
    attention = [k for k in kernels if "MatMul" in k.type and k.layout == "seen"]
    assert sum(k.macs for k in attention) == 4 * 2 * 50 * 50 * 64
    assert [k.macs for k in kernels if k.weight == "embed.weight"] == [7 * 7 * 64 * 16]
    named = {k.weight for k in kernels if k.weight}
    assert {"blocks.0.attention.qkv.weight", "blocks.3.fc2.weight", "classifier.weight", "embed.weight"} <= named
    lstm = RowLSTM().eval()
    kernels = seen_kernels(export_graph(lstm, (1, 28, 28)).build(lstm.state_dict()), (1, 28, 28))
    steps = [k for k in kernels if k.type == "LSTM of 28 steps"]
    assert [(k.inputs, k.outputs, k.macs) for k in steps] == [
        (28, 96, 28 * 4 * 96 * (28 + 96)), (96, 96, 28 * 4 * 96 * (96 + 96)),
    ]  # fmt: skip
    assert [k.weight for k in steps] == ["lstm.weight_ih_l0", "lstm.weight_ih_l1"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_predictions_rest_on_measured_kernels_alone(table: KernelTable, data: wb.Dataset):
    torch.manual_seed(0)
    model = wb.load_model(Small().eval())
    subject = Subject.of(model, SHAPE)
    evaluator = Evaluator(subject, data["test"], data.normalization)
    estimator = LatencyEstimator(subject, evaluator.graphs, data, data.normalization)
    estimator._table = table
    context = context_for(model, data)
    dense = compress_subject(subject, Recipe(), context)
    assert estimator.predict(dense) is not None
    before = estimator.unknown
    assert before > 0
    for _ in range(6):
        estimator.learn(lambda: False, seconds=20)
        if not estimator.unknown:
            break
    assert estimator.unknown == 0
    times = {}
    for text in (
        "",
        "- prune: {granularity: head, ratio: 0.5, scope: layer}",
        "- quantize: {bits: 8, activations: {bits: 8}}",
        "- factorize: {rank: 2}",
        "- prune: {granularity: layer, criterion: random, ratio: 0.9}",
    ):
        compressed = compress_subject(subject, Recipe.parse(text), context)
        kernels = estimator._kernels.of(compressed)
        predicted = kernel_times(kernels, table)
        unknown = sum(entry.ns for entry in predicted if not entry.known)
        assert unknown <= 0.2 * sum(entry.ns for entry in predicted), text
        latency = estimator.predict(compressed)
        assert latency is not None
        assert np.isfinite(latency.ms)
        times[text] = latency.ms
    assert min(times, key=lambda text: times[text]) == text  # without its block the model does least
    shares = estimator.time_shares(dense)
    assert shares["vit.blocks.0.attention.qkv.weight"] > 0
    assert shares["lstm.weight_ih_l0"] > 0


@pytest.mark.parametrize("name", ["lenet5", "mobilenetv2"])
def test_convolutions_read_off_a_run_are_those_that_the_rules_plan(name: str):
    model, block = export_zoo(name), find_block()
    image = (1, 28, 28)
    images = np.random.default_rng(0).random((2, *image), dtype=np.float32)
    for file, int8 in ((model, False), (export_int8(model, images), True)):
        planned, seen = (
            Counter(
                (place(kernel, block), kernel.macs, kernel.bytes, kernel.weight)
                for kernel in kernels
                if kernel.type in CONVOLUTIONS
            )
            for kernels in (
                fused_kernels(model, image, int8=int8, block=block),
                seen_kernels(file, image, block=block),
            )
        )
        assert seen == planned
        assert seen.total() > 1
