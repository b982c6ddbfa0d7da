"""int8 files hold the recipe's codes and run on integer kernels, by the runtime's own account."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from tests.deploy.conftest import Write
from workbench.data.dataset import Dataset
from workbench.deploy.onnx_int8 import int8_model, int8_remarks
from workbench.deploy.writing import prepare
from workbench.int8 import signed_scales
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.run.runner import OnnxRunner
from workbench.techniques.storage import Codes

INT8 = "- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}"


def test_onnx_runtime_multiplies_in_integers(written: Write) -> None:
    kinds = Counter((row.op, row.dtype) for row in written("onnx-int8").kernels)
    assert kinds["QLinearConv", "int8"] == 2
    assert kinds["QGemm", "int8"] == 2
    assert {op for op, dtype in kinds if dtype == "fp32"} == {"QuantizeLinear"}


def test_a_residual_networks_convolutions_and_sums_are_all_integer_kernels(written: Write) -> None:
    kinds = Counter((row.op, row.dtype) for row in written("onnx-int8", "resnet20", INT8).kernels)
    assert kinds["QLinearConv", "int8"] == 21
    assert kinds["QLinearAdd", "int8"] == 9
    assert not {"Conv", "FusedConv", "Add"} & {op for op, _ in kinds}


def test_the_file_holds_the_recipes_own_codes_and_grids(little_data: Dataset) -> None:
    source = prepare(load_model("lenet5"), little_data, Recipe.parse(INT8))
    model = int8_model(source)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for name, codes in source.compressed.codes.items():
        signed = (codes.codes.int() - 128).numpy()
        np.testing.assert_array_equal(tensors[f"{name}_quantized"], signed)
        np.testing.assert_allclose(tensors[f"{name}_scale"], codes.scale.numpy(), rtol=1e-6)
    scales = {float(np.ravel(array)[0]) for name, array in tensors.items() if name.endswith("_scale")}
    for grid in source.compressed.grids.values():
        assert float(np.float32(grid.scale)) in scales


def test_grids_of_inputs_are_kept_where_a_border_of_their_own_values_is_put_around_them(little_data: Dataset) -> None:
    torch.manual_seed(0)
    convolutions = [nn.Conv2d(size, 8, 3, stride=2, padding=1, padding_mode="reflect") for size in (1, 8)]
    model = nn.Sequential(convolutions[0], nn.ReLU(), convolutions[1], nn.Flatten(), nn.Linear(8 * 49, 10)).eval()
    recipe = Recipe.parse("- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8, observer: mse}}")
    source = prepare(load_model(model), little_data, recipe)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8_model(source).graph.initializer}
    scales = {float(np.ravel(array)[0]) for name, array in tensors.items() if name.endswith("_scale")}
    assert {float(np.float32(grid.scale)) for grid in source.compressed.grids.values()} <= scales


def test_batchnorms_factor_goes_into_the_scales_and_the_codes_stay(little_data: Dataset) -> None:
    source = prepare(load_model("resnet20"), little_data, Recipe.parse(INT8))
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8_model(source).graph.initializer}
    for name, codes in source.compressed.codes.items():
        signed, stored = (codes.codes.int() - 128).numpy(), tensors[f"{name}_quantized"]
        # a negative factor turns the sign of a channel; -128 has no counterpart then
        signs = np.sign((signed * stored.astype(int)).reshape(len(signed), -1).sum(1))
        turned = (signed * signs.reshape(-1, *[1] * (signed.ndim - 1))).clip(-128, 127)
        np.testing.assert_array_equal(stored, turned)


@pytest.mark.parametrize(
    ("codes", "kept"),
    [
        (Codes(torch.tensor([[0, 255]]), torch.ones(1), torch.tensor([128.0]), 0, 8), True),
        (Codes(torch.tensor([[0, 255]]), torch.ones(1), torch.tensor([30.0]), 0, 8), False),
        (Codes(torch.tensor([[0, 15]]), torch.ones(1), torch.tensor([3.0]), 0, 4), True),
        (Codes(torch.tensor([[0, 15]]), torch.ones(2), torch.zeros(2), 0, 4, group=1), False),
    ],
    ids=["symmetric", "far off zero", "few bits off zero", "groups"],
)
def test_codes_are_kept_where_they_are_signed_8_bit_integers(codes: Codes, kept: bool) -> None:
    assert (signed_scales(codes) is not None) == kept


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("- prune: {ratio: 0.5}", "added 'quantize: {bits: 8"),
        ("- quantize: {bits: 8, activations: {bits: 8}}", "scheme: symmetric"),
        ("- quantize: {bits: 4, activations: {bits: 6}}", "Activations of 6 bits are kept in 8"),
        ("- quantize: {bits: 4, format: nf, activations: {bits: 8}}", "on no uniform grid"),
        ("- quantize: {activations: {mode: dynamic}}", "calibrated once"),
        ("- quantize: {activations: {mode: binary}}", "Inputs of two values are told apart in float"),
    ],
)
def test_what_the_file_has_otherwise_than_the_recipe_is_said(written: Write, recipe: str, said: str) -> None:
    found = written("onnx-int8", "lenet300", recipe)
    assert any(said in remark for remark in found.remarks)
    assert found.agreement.value >= 0.96


class Looked(nn.Module):
    """Pixels as places in a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(64, 16)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        places = (x[:, 0].flatten(1) * 20).clamp(0, 63).long()
        logits: Tensor = self.fc(self.table(places).mean(1))
        return logits


@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_rows_of_a_table_are_looked_up_at_their_places(little_data: Dataset, per: str) -> None:
    torch.manual_seed(0)
    recipe = Recipe.parse(INT8.replace("bits: 8,", f"bits: 8, per: {per},", 1))
    source = prepare(load_model(Looked().eval()), little_data, recipe)
    assert source.normalization is not None
    images = source.normalization(little_data["test"].images[:16])
    model = int8_model(source)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    codes = source.compressed.codes["table.weight"]
    if per == "tensor":
        np.testing.assert_array_equal(tensors["table.weight_quantized"], (codes.codes.int() - 128).numpy())
    assert any("'table.weight' were rounded anew" in remark for remark in int8_remarks(source)) == (per == "channel")
    with torch.inference_mode():
        expected = source.compressed.fresh_module()(images).numpy()
    found = OnnxRunner(model, 1).logits(images)
    np.testing.assert_allclose(found, expected, atol=0.02 * float(np.ptp(expected)))


def test_int8_weights_take_a_byte_each(written: Write) -> None:
    found = written("onnx-int8", "resnet20", INT8)
    weights = sum(tensor.numel() for tensor in load_model("resnet20").module.parameters())
    assert weights < found.nbytes < 1.35 * weights
    assert onnx.load(found.files[0][0]).opset_import[0].version >= 13


def test_openvino_multiplies_in_integers(written: Write) -> None:
    kinds = Counter((row.op, row.dtype) for row in written("openvino-int8").kernels)
    assert kinds["Convolution", "int8"] == 2
    assert (
        sum(count for (op, dtype), count in kinds.items() if op.startswith("FullyConnected") and dtype == "int8") == 2
    )
