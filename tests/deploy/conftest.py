"""Small ONNX files that every test of deployment may run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def convolutions(count: int, channels: int = 16, batch: int | str = "N") -> onnx.ModelProto:
    """Return ``count`` convolutions with ReLU on 28×28 images, then a mean and a Linear."""
    random = np.random.default_rng(0)
    nodes, weights, tensor, inputs = [], [], "images", 1
    for place in range(count):
        weight = random.standard_normal((channels, inputs, 3, 3), dtype=np.float32) / 8
        weights.append(numpy_helper.from_array(weight, f"w{place}"))
        nodes.append(helper.make_node("Conv", [tensor, f"w{place}"], [f"c{place}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{place}"], [f"r{place}"]))
        tensor, inputs = f"r{place}", channels
    weights.append(numpy_helper.from_array(random.standard_normal((channels, 10), dtype=np.float32), "w"))
    nodes += [
        helper.make_node("GlobalAveragePool", [tensor], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, "convolutions",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 10])], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "small.onnx"
    onnx.save(convolutions(2), path)
    return path


@pytest.fixture(scope="session")
def larger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten times the multiplications of ``small``."""
    path = tmp_path_factory.mktemp("files") / "larger.onnx"
    onnx.save(convolutions(12), path)
    return path
