from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from tests.bench.slicing import export_zoo, slice_channels
from workbench.measure.latency import GraphError, fused_kernels, read_graph, resize
from workbench.measure.latency.table import find_block
from workbench.run.qdq import export_int8

IMAGE = (1, 28, 28)
NAMES = ("lenet300", "lenet5", "resnet20", "mobilenetv2")
#: What ONNX Runtime calls the kernels.
TYPES = {
    "FusedGemm": "Gemm", "FusedConv": "Conv", "Flatten": "View", "Reshape": "View", "QLinearConv": "Conv",
    "QGemm": "Gemm", "NhwcMaxPool": "MaxPool", "QLinearAdd": "Add",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
}  # fmt: skip


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    return export_zoo(request.param)


def what_runs(model: onnx.ModelProto, folder: Path) -> Counter[tuple[str, bool]]:
    """What ONNX Runtime's own optimizer makes of the graph: type, and whether it is blocked."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(options.optimized_model_filepath).graph.node
    return Counter(
        (TYPES.get(node.op_type, node.op_type), "nchwc" in node.domain and "Reorder" not in node.op_type)
        for node in nodes
    )


def what_we_say(model: onnx.ModelProto, int8: bool = False) -> Counter[tuple[str, bool]]:
    kernels = fused_kernels(model, IMAGE, int8=int8, block=find_block())
    return Counter(
        (kernel.type.replace("DepthwiseConv", "Conv"), kernel.layout in ("blocked", "direct")) for kernel in kernels
    )


@pytest.mark.parametrize("multiple", [1, 2, 4, 8, 16])
def test_kernels_are_those_onnxruntime_runs_at_any_channel_counts(
    model: onnx.ModelProto, multiple: int, tmp_path: Path
) -> None:
    generator = np.random.default_rng(multiple)
    for _ in range(3):
        sliced = slice_channels(
            model, lambda old: max(multiple, round(old * generator.uniform(0.1, 1) / multiple) * multiple)
        )
        assert what_we_say(sliced) == what_runs(sliced, tmp_path)


def test_int8_kernels_foretold_from_the_fp32_graph_are_those_of_the_exported_graph(
    model: onnx.ModelProto, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).standard_normal((8, *IMAGE), dtype=np.float32)
    exported = export_int8(model, images)
    assert what_we_say(model, int8=True) == what_runs(exported, tmp_path) == what_we_say(exported)


def test_multiply_accumulates_of_resnet20_are_those_counted_by_hand() -> None:
    stages = ((28, 16), (14, 32), (7, 64))
    expected = 28 * 28 * 16 * 9 + 64 * 10
    for size, width in stages:
        expected += 6 * size * size * width * width * 9
        if width > 16:  # the first convolution reads half the channels; the shortcut is 1×1
            expected += size * size * width * (width // 2) * (9 - 18 + 1)
    assert sum(kernel.macs for kernel in fused_kernels(export_zoo("resnet20"), IMAGE)) == expected


def test_resizing_a_graph_gives_the_kernels_of_the_sliced_model(model: onnx.ModelProto) -> None:
    sliced = slice_channels(model, lambda old: max(1, old // 2))
    shapes = {tensor.name: tuple(tensor.dims) for tensor in sliced.graph.initializer}
    graph = read_graph(model)
    derived = resize(graph, {name: shape for name, shape in shapes.items() if shape != graph.weights[name]})
    assert fused_kernels(derived, IMAGE) == fused_kernels(sliced, IMAGE)


def test_reading_and_fusing_resnet20_takes_a_few_milliseconds() -> None:
    model = export_zoo("resnet20")
    times = []
    for _ in range(20):
        start = time.perf_counter()
        fused_kernels(model, IMAGE)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005


def test_batch_scales_multiply_accumulates() -> None:
    model = export_zoo("lenet5")
    one, eight = (sum(kernel.macs for kernel in fused_kernels(model, IMAGE, batch)) for batch in (1, 8))
    assert eight == 8 * one


def test_each_weight_belongs_to_one_kernel(model: onnx.ModelProto) -> None:
    weights = [kernel.weight for kernel in fused_kernels(model, IMAGE) if kernel.weight]
    large = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) in (2, 4)}
    assert sorted(weights) == sorted(large)


def test_two_inputs_are_refused_with_a_sentence() -> None:
    entries = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 4)) for name in ("a", "b")]
    result = helper.make_tensor_value_info("c", TensorProto.FLOAT, (1, 4))
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "two", entries, [result])
    with pytest.raises(GraphError, match="one input"):
        read_graph(helper.make_model(graph))


def test_bytes_that_are_no_model_are_refused_with_a_sentence() -> None:
    with pytest.raises(GraphError, match="not an ONNX model"):
        read_graph(b"certainly not a model")


def test_an_image_too_small_for_the_network_is_refused_with_a_sentence() -> None:
    with pytest.raises(GraphError, match="could not be inferred"):
        fused_kernels(export_zoo("lenet5"), (1, 3, 3))


def test_products_of_several_rows_and_of_one_are_measured_in_one_graph() -> None:
    from workbench.measure.latency.kernel import Kernel
    from workbench.measure.latency.parade import run_parade

    kernels = [Kernel("fc", "Gemm", "fp32", "blocked", 16, 8, (), (), batch=batch) for batch in (8, 1)]
    assert {entry.kernel for entry in run_parade(kernels)} >= set(kernels)
