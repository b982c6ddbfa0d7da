"""int8 files run on integer kernels, by the runtime's own account."""

from __future__ import annotations

from collections import Counter

from tests.deploy.conftest import Write


def test_onnx_runtime_multiplies_in_integers(written: Write) -> None:
    found = written("onnx-int8")
    kinds = Counter((row.op, row.dtype) for row in found.kernels)
    assert kinds["QLinearConv", "int8"] == 2
    assert kinds["QGemm", "int8"] == 2
    assert {row.op for row in found.kernels if row.dtype == "fp32"} == {"QuantizeLinear"}


def test_activations_are_added_where_the_recipe_has_none_and_that_is_said(written: Write) -> None:
    found = written("onnx-int8", recipe="- prune: {ratio: 0.5}")
    assert [step.technique for step in found.recipe.steps] == ["prune", "quantize"]
    assert any("added 'quantize: {bits: 8" in remark for remark in found.remarks)
