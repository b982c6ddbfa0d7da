"""Files with weights of few bits really are that small, and hold the recipe's codes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto
from torch import Tensor, nn

from tests.deploy.conftest import Write
from workbench.data.dataset import Dataset
from workbench.deploy.formats import FORMATS
from workbench.deploy.onnx_weights import weights_model
from workbench.deploy.writing import prepare
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.run.runner import OnnxRunner


@pytest.mark.parametrize(
    ("name", "kind", "bits", "opset"),
    [("onnx-int4", TensorProto.UINT4, 4, 21), ("onnx-int2", TensorProto.UINT2, 2, 25)],
)
def test_a_weight_takes_no_more_bits_than_the_format_says(
    written: Write, name: str, kind: int, bits: int, opset: int
) -> None:
    found = written(name)
    weights = sum(tensor.numel() for tensor in load_model("lenet5").module.parameters())
    assert found.nbytes < weights * bits / 8 + 10_000
    model = onnx.load(found.files[0][0])
    assert model.opset_import[0].version == opset
    codes = [tensor for tensor in model.graph.initializer if tensor.data_type == kind and tensor.name.endswith("codes")]
    assert len(codes) == 4
    assert all(tensor.raw_data for tensor in codes)


def test_halves_take_half_the_bytes(written: Write) -> None:
    assert written("onnx-fp16").nbytes < 0.52 * written("onnx").nbytes
    assert written("openvino").nbytes < 0.52 * written("onnx").nbytes


def test_openvino_keeps_4_bit_weights(written: Write) -> None:
    found = written("openvino-int4")
    weights = sum(tensor.numel() for tensor in load_model("lenet5").module.parameters())
    (_, graph), (_, content) = found.files
    assert content < 0.52 * weights
    assert graph < 40_000


def test_bits_that_the_recipe_has_already_are_kept(written: Write) -> None:
    found = written("onnx-int4", recipe="- quantize: {bits: 3}")
    assert found.recipe.to_data() == [{"quantize": {"bits": 3}}]
    assert found.agreement.value == 1
    mixed = written("onnx-int4", recipe="- quantize: {bits: 4, overrides: {conv1: {bits: 8}}}")
    assert any("'conv1.weight' have more bits" in remark for remark in mixed.remarks)


def test_two_bits_leave_a_model_to_speak_of_where_there_are_images(written: Write) -> None:
    found = written("onnx-int2")
    assert found.recipe.to_data() == [{"quantize": {"bits": 2, "range": "mse", "rounding": "gptq"}}]
    assert found.accuracy.value > 0.85  # 0.47 by rounding to nearest
    without, _ = FORMATS["onnx-int2"].complete(Recipe(), calibrated=False)
    assert without.to_data() == [{"quantize": {"bits": 2, "range": "mse"}}]


@pytest.mark.parametrize("recipe", ["- quantize: {bits: 2}", "- quantize: {bits: 2, per: tensor}"])
def test_matrices_of_2_bits_that_the_graph_transposes_open_and_answer_alike(little_data: Dataset, recipe: str) -> None:
    torch.manual_seed(0)
    head = nn.Flatten(), nn.Linear(24 * 28, 10)
    rows = nn.Sequential(nn.Flatten(1, 2), nn.Linear(28, 24), nn.ReLU(), nn.Linear(24, 24), *head)  # two are MatMuls
    source = prepare(load_model(rows.eval()), little_data, Recipe.parse(recipe))
    images = source.normalization(little_data["test"].images[:16])
    model = weights_model(source)
    assert not any(node.op_type == "Transpose" for node in model.graph.node)
    assert sum(tensor.data_type == TensorProto.UINT2 for tensor in model.graph.initializer) == 6
    with torch.inference_mode():
        expected = source.compressed.fresh_module()(images).numpy()
    exact = ort.SessionOptions()  # without what rounds inputs of the products to 8 bits
    exact.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(model.SerializeToString(), exact)
    (found,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(OnnxRunner(model, 1).logits(images), expected, atol=0.05 * float(np.ptp(expected)))


class Looked(nn.Module):
    """Pixels looked up in a table of which a Linear layer reads the transposed, as language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(64, 16)
        self.back = nn.Linear(16, 64, bias=False)
        self.back.weight = self.table.weight
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        places = (x[:, 0].flatten(1) * 20).clamp(0, 63).long()
        logits: Tensor = self.fc(self.back(self.table(places).mean(1, keepdim=True)).relu()[:, 0])
        return logits


@pytest.mark.parametrize("kind", ["narrow", "looked up"])
def test_matrices_that_no_kernel_takes_in_2_bits_have_4(little_data: Dataset, kind: str) -> None:
    """ONNX Runtime multiplied wrongly with 23 columns, and could not open the other."""
    torch.manual_seed(0)
    head = nn.Flatten(), nn.Linear(23 * 28, 10)
    rows = nn.Sequential(nn.Flatten(1, 2), nn.Linear(28, 23), nn.ReLU(), nn.Linear(23, 23), *head)
    module = rows if kind == "narrow" else Looked()
    source = prepare(load_model(module.eval()), little_data, Recipe.parse("- quantize: {bits: 2}"))
    images = source.normalization(little_data["test"].images[:16])
    with torch.inference_mode():
        expected = source.compressed.fresh_module()(images).numpy()
    found = OnnxRunner(weights_model(source), 1).logits(images)
    np.testing.assert_allclose(found, expected, atol=0.05 * float(np.ptp(expected)))
