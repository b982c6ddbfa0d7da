"""Weights from a table of values in an ONNX file: looked up to the bit, and as small as their codes."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import workbench as wb
from workbench.compressed import CompressedModel
from workbench.run.onnx_export import export_graph
from workbench.run.onnx_file import onnx_file
from workbench.run.runner import OnnxRunner

SHAPE = (3, 8, 8)
FORMATS = {
    "nf": ("- quantize: {format: nf, bits: 4}", 4),
    "nf in groups": ("- quantize: {format: nf, bits: 4, per: group, group_size: 2}", 4),
    "powers of two": ("- quantize: {format: pot, bits: 4}", 4),
    "additive powers": ("- quantize: {format: apot, bits: 4}", 4),
    "k-means levels": ("- quantize: {format: kmeans, bits: 3}", 4),
    "fp8": ("- quantize: {format: fp8_e4m3}", 8),
    "pruned codebook": ("- prune: {ratio: 0.5}\n- share: {bits: 4}", 8),
    "codebook": ("- share: {bits: 2}", 2),
    "codebooks of channels": ("- share: {bits: 3, scope: group, group: 4}", 4),
    "vectors": ("- share: {method: product, block: 4, bits: 4}", 1),
    "few buckets": ("- share: {method: hash, buckets: 0.01}", 8),
    "buckets": ("- share: {method: hash, bits: 8}", 16),
    "buckets of what is left": ("- prune: {ratio: 0.5}\n- share: {method: hash, bits: 4}", 16),
}


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(body, nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, 4)).eval()


def file_of(module: nn.Module, compressed: CompressedModel) -> onnx.ModelProto:
    return onnx_file(export_graph(module, SHAPE), compressed.tensors, {}, tables=compressed.tables)


def looked_up(file: onnx.ModelProto, name: str) -> np.ndarray:
    """Return what ONNX Runtime makes of the nodes before ``name``."""
    needed, nodes = {name}, []
    for node in reversed(file.graph.node):
        if needed & set(node.output):
            nodes.append(node)
            needed |= set(node.input)
    constants = [tensor for tensor in file.graph.initializer if tensor.name in needed]
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    add = helper.make_node("Add", ["x", name], ["y"])
    graph = helper.make_graph([*reversed(nodes), add], "weight", [value], [answer], constants)
    model = helper.make_model(graph, opset_imports=file.opset_import, ir_version=file.ir_version)
    return OnnxRunner(model).run(np.zeros(1, np.float32))[0]


@pytest.mark.parametrize("name", FORMATS)
def test_each_weight_is_looked_up_to_the_bit_and_its_codes_are_small(module: nn.Module, name: str):
    recipe, bits = FORMATS[name]
    compressed = wb.compress(module, recipe, image_shape=SHAPE)
    weights = [weight for weight in compressed.tensors if compressed.tensors[weight].ndim > 1]
    assert compressed.tables.keys() >= {weight for weight in weights if weight != "3.weight"}
    file = file_of(module, compressed)
    sizes = {tensor.name: len(tensor.raw_data) for tensor in file.graph.initializer}
    for weight in compressed.tables:
        expected = compressed.tensors[weight].numpy()
        assert np.array_equal(looked_up(file, weight), expected + 0.0)
        assert sizes[f"{weight}.codes"] <= math.ceil(1.35 * expected.size * bits / 8)  # groups are filled up
        assert weight not in sizes
    images = torch.randn(2, *SHAPE)
    with torch.inference_mode():
        np.testing.assert_allclose(OnnxRunner(file).logits(images), compressed.module(images), atol=1e-4)


def test_buckets_too_many_to_gain_by_a_table_are_stored_in_full(module: nn.Module):
    compressed = wb.compress(module, "- share: {method: hash, buckets: 0.9}", image_shape=SHAPE)
    assert not compressed.tables
    assert file_of(module, compressed).ByteSize() > 4 * sum(value.numel() for value in compressed.tensors.values())
