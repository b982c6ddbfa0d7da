"""Half of the channels of every zoo and gallery model: they really go, or the model says why they stay.

Where they go, the MACs are those foreseen and the exported ONNX file answers as the PyTorch module does.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.gallery import CLASSIFIERS, SHAPE, UNUSUAL, build
from workbench.models.edits import Slice
from workbench.models.layers import layers_of
from workbench.models.zoo import ARCHITECTURES

HALF = "- prune: {granularity: filter, ratio: 0.5, scope: layer, multiple: 1}"
#: Those of every run; the others, which also take other ways through it, in the slow one.
QUICK = ("lenet5", "lstm", "concat", "chunk", "shuffle", "encoder", "control_flow", "recurrent", "degenerate")
NAMES = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
    for name in (*ARCHITECTURES, *CLASSIFIERS, *UNUSUAL)
]


@pytest.fixture(autouse=True)
def exportable_attention() -> Iterator[None]:
    """Keep PyTorch's encoder layers from a fused operator that its exporter does not know."""
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(True)


def parts(output: Any) -> list[Tensor]:
    """Return the tensors of a module's output, in the order in which ONNX lists them."""
    if isinstance(output, Tensor):
        return [output]
    inner = output.values() if isinstance(output, dict) else output
    return [tensor for part in inner for tensor in parts(part)]


def run_exported(module: nn.Module, images: Tensor) -> list[Tensor]:
    """Return what ONNX Runtime answers with the exported module."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (images,), buffer, dynamo=False, input_names=["images"], opset_version=17)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(part) for part in session.run(None, {"images": images.numpy()})]


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("name", NAMES)
def test_they_go_and_the_exported_model_answers_alike_or_the_reason_is_told(name: str) -> None:
    model = wb.load_model(name if name in ARCHITECTURES else build(name))
    shape = model.input_shape or SHAPE
    ours = wb.compress(model, HALF, image_shape=shape)
    if not any(isinstance(edit, Slice) for edit in ours.edits):
        assert re.match(r"No filters could be removed \(.+: .+\)\.|0 of 1 prunable filters removed", ours.notes[0])
        return
    counted = {layer.name: layer.macs for layer in layers_of(ours.module, shape)}
    before = sum(layer.macs for layer in layers_of(model.module, shape))
    assert {layer.name: layer.macs for layer in ours.layers} == counted
    assert sum(counted.values()) < before
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = parts(ours.module(images))
    for found, wanted in zip(run_exported(ours.fresh_module(), images), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
