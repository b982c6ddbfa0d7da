from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from workbench.cli import main
from workbench.deploy.benchmark import EngineError
from workbench.deploy.fusion import fusion
from workbench.run.qdq import export_int8


def residual() -> onnx.ModelProto:
    """Conv, BatchNorm, ReLU; conv, BatchNorm, plus the first, ReLU; a mean and a Linear."""
    random = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("w1", (16, 3, 3, 3)), ("w2", (16, 16, 3, 3)), ("w3", (16, 10)))
    ]
    for norm in ("n1", "n2"):
        for part in ("scale", "bias", "mean", "var"):
            weights.append(numpy_helper.from_array(np.ones(16, np.float32), f"{norm}.{part}"))

    def norm(name: str, source: str) -> onnx.NodeProto:
        parts = [f"{name}.{part}" for part in ("scale", "bias", "mean", "var")]
        return helper.make_node("BatchNormalization", [source, *parts], [f"{name}.out"], name=name)

    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]), norm("n1", "c1"),
        helper.make_node("Relu", ["n1.out"], ["r1"], name="relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2", pads=[1, 1, 1, 1]), norm("n2", "c2"),
        helper.make_node("Add", ["n2.out", "r1"], ["sum"], name="add"),
        helper.make_node("Relu", ["sum"], ["r2"], name="relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w3"], ["y"], name="fc"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "residual", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fusion") / "residual.onnx"
    onnx.save(residual(), path)
    return path


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_batchnorm_activation_and_addition_go_into_the_convolutions(path: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    found = fusion(path, runtime)
    assert len(found.before) == 10
    held = [{found.before[place].name for place in kernel.holds} for kernel in found.after if len(kernel.holds) > 1]
    assert {"conv1", "n1", "relu1"} in held
    assert any({"conv2", "n2"} <= names for names in held)
    # whether the addition goes into the convolution too is the runtime's choice; OpenVINO's depends on the CPU
    assert any({"add", "relu2"} <= names for names in held)
    assert runtime == "openvino" or {"conv2", "n2", "add", "relu2"} in held
    assert not found.removed - Counter({"Flatten": 1})
    assert len(found.after) < len(found.before) + sum(found.added.values())


def test_quantizers_are_folded_into_integer_kernels(path: Path, tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((8, 3, 16, 16)).astype(np.float32)
    quantized = tmp_path / "int8.onnx"
    onnx.save(export_int8(onnx.load(path), images), quantized)
    found = fusion(quantized)
    before = Counter(node.op for node in found.before)
    assert before["DequantizeLinear"] > 4
    kernels = Counter(kernel.op for kernel in found.after)
    assert kernels["QLinearConv"] == 2
    assert kernels["DequantizeLinear"] <= 1
    folded = [pattern for pattern in found.patterns if pattern.endswith("→ QLinearConv")]
    assert all("DequantizeLinear + Conv" in pattern for pattern in folded)


def test_edges_lead_from_the_input_to_the_output(path: Path) -> None:
    found = fusion(path)
    for graph in (found.before, found.after):
        reached = {place for node in graph for place in node.inputs}
        ends = [place for place in range(len(graph)) if place not in reached]
        assert len(ends) == 1  # only the last node is read by none
        assert all(source < place for place, node in enumerate(graph) for source in node.inputs)


def test_the_command_tells_counts_patterns_and_times(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", str(path), "--fusion", "--seconds", "0.2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["fusion"]
    assert sum(report["counts"]["before"].values()) == 10
    assert any(pattern.startswith("Conv + BatchNormalization + Add + Relu") for pattern in report["patterns"])
    assert report["ms"]["before"]["median"] > 0
    assert report["ratio"]["low"] <= report["ratio"]["median"] <= report["ratio"]["high"]


def test_what_shows_no_fusion_is_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="Fusion is shown for ONNX files"):
        fusion(path, "torch")
    with pytest.raises(EngineError, match="There is no file"):
        fusion(tmp_path / "absent.onnx")
