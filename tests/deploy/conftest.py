"""Small ONNX files that every test of deployment may run, and exports written once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.deploy.export import Export, export
from workbench.deploy.formats import FORMATS
from workbench.models.load import load_model
from workbench.recipe import Recipe

Write = Callable[..., Export]


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


@pytest.fixture(scope="session")
def little_data() -> Dataset:
    """Fashion-MNIST with a few hundred images a split."""
    return little()


def little() -> Dataset:
    """Return the same where there are no fixtures."""
    data = load_dataset("fashion_mnist")
    splits = {name: split.take(torch.arange(400)) for name, split in data.splits.items()}
    return dataclasses.replace(data, splits=splits)


@pytest.fixture(scope="session")
def written(little_data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Write:
    """Return a function that exports, each combination once."""
    done: dict[tuple[str, str, str], Export] = {}

    def write(format: str, model: str = "lenet5", recipe: str = "[]") -> Export:
        if not FORMATS[format].installed:
            pytest.skip(FORMATS[format].install)
        key = (format, model, recipe)
        if key not in done:
            folder = tmp_path_factory.mktemp("export")
            done[key] = export(load_model(model), little_data, Recipe.parse(recipe), format, folder)
        return done[key]

    return write


def read(found: Export) -> list[bytes]:
    """Return the bytes of all files of an export."""
    return [Path(path).read_bytes() for path, _ in found.files]
