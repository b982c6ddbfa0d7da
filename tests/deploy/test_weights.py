"""Files with weights of few bits really are that small, and hold the recipe's codes."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto

from tests.deploy.conftest import Write
from workbench.models.load import load_model


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
