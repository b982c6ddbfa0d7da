"""The ONNX graph gives PyTorch's answers, for every recipe and both kinds of file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from workbench.compressed import CompressedModel
from workbench.compression import compress_subject, context_for
from workbench.data.load import load_dataset
from workbench.models.load import load_model
from workbench.models.zoo import ARCHITECTURES
from workbench.recipe import Recipe
from workbench.run import onnx_export
from workbench.run.onnx_export import export_graph
from workbench.run.onnx_file import onnx_file
from workbench.run.onnx_graph import ExportError, OnnxGraph
from workbench.run.runner import OnnxRunner, Stopped, TorchRunner, session_options
from workbench.subject import Subject

SHAPE = (1, 28, 28)


def compressed(name: str, text: str) -> tuple[CompressedModel, OnnxGraph]:
    torch.manual_seed(0)
    model = load_model(ARCHITECTURES[name]())
    data = load_dataset("fashion_mnist")
    found = compress_subject(Subject.of(model, SHAPE), Recipe.parse(text), context_for(model, data))
    return found, export_graph(model.module, SHAPE)


def test_sessions_that_open_at_once_write_their_graphs_one_after_another() -> None:
    modules = {name: ARCHITECTURES[name]().eval() for name in ("lenet300", "lenet5")}
    with ThreadPoolExecutor(4) as threads:
        written = [(name, threads.submit(export_graph, modules[name], SHAPE)) for name in [*modules] * 2]
        for name, graph in written:
            alone = export_graph(modules[name], SHAPE).build(modules[name].state_dict())
            assert graph.result().build(modules[name].state_dict()) == alone


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "- prune: {ratio: 0.7}\n- quantize: {bits: 4}",
        "- prune: {granularity: filter, ratio: 0.5, scope: layer}",
    ],
)
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_both_runtimes_give_the_same_logits(name: str, text: str) -> None:
    found, graph = compressed(name, text)
    images = torch.randn(5, *SHAPE)
    ours = OnnxRunner(graph.build(found.tensors, found.grids)).logits(images)
    np.testing.assert_allclose(ours, TorchRunner(found.fresh_module()).logits(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bits", [4, 8])
def test_simulated_activations_equal_quantize_linear(bits: int) -> None:
    """The four float nodes round as ONNX's own QuantizeLinear and DequantizeLinear do."""
    found, graph = compressed("lenet300", f"- quantize: {{activations: {{bits: {bits}}}}}")
    images = torch.randn(16, *SHAPE)
    simulated = OnnxRunner(graph.build(found.tensors, found.grids)).logits(images)
    model = graph.build(found.tensors)
    nodes = []
    for node in model.graph.node:
        layer = next((name for name in found.grids if f"{name}.weight" in node.input), None)
        if layer:
            grid = found.grids[layer]
            low, high = ((bound - grid.zero_point) * grid.scale for bound in (0, 2**grid.bits - 1))
            values = {"low": np.float32(low), "high": np.float32(high), "s": np.float32(grid.scale)}
            for name, value in {**values, "z": np.uint8(grid.zero_point)}.items():
                model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), f"{layer}.{name}"))
            nodes += [
                onnx.helper.make_node("Clip", [node.input[0], f"{layer}.low", f"{layer}.high"], [f"{layer}.c"]),
                onnx.helper.make_node("QuantizeLinear", [f"{layer}.c", f"{layer}.s", f"{layer}.z"], [f"{layer}.q"]),
                onnx.helper.make_node("DequantizeLinear", [f"{layer}.q", f"{layer}.s", f"{layer}.z"], [f"{layer}.d"]),
            ]
            node.input[0] = f"{layer}.d"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    options = session_options(1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    reference = ort.InferenceSession(model.SerializeToString(), options).run(None, {"input": images.numpy()})[0]
    np.testing.assert_allclose(simulated, reference, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("text", "most"), [
    ("- quantize: {bits: 8}", 0.30),
    ("- quantize: {bits: 4}", 0.17),
    ("- quantize: {bits: 3, per: tensor, scheme: symmetric}", 0.17),
    ("- quantize: {format: fp16}", 0.55),
    ("- quantize: {bits: 4, per: group, group_size: 16}", 0.20),
    ("- quantize: {bits: 8, per: group, group_size: 7}", 0.45),
    ("- quantize: {format: integer, bits: 16}", 0.55),
    ("- quantize: {format: ternary}", 0.17),
    ("- quantize: {format: fixed, bits: 6}", 0.30),
])  # fmt: skip
def test_the_runtime_file_is_small_and_decodes_as_we_do(text: str, most: float) -> None:
    found, graph = compressed("lenet5", text)
    file = onnx_file(graph, found.tensors, found.integers, found.halves)
    onnx.checker.check_model(file)
    assert file.ByteSize() < most * graph.build(found.tensors).ByteSize()
    images = torch.randn(4, *SHAPE)
    expected = OnnxRunner(graph.build(found.tensors)).logits(images)
    np.testing.assert_allclose(OnnxRunner(file).logits(images), expected, rtol=1e-5, atol=1e-5)


def test_a_stopped_runner_raises() -> None:
    found, graph = compressed("lenet300", "[]")
    for runner in (OnnxRunner(graph.build(found.tensors)), TorchRunner(found.fresh_module())):
        runner.logits(torch.zeros(1, *SHAPE))
        runner.stop()
        with pytest.raises(Stopped):
            runner.logits(torch.zeros(1, *SHAPE))


def test_a_model_that_does_not_export_says_so() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.eigvals(x.squeeze(1)).real[:, :10]

    with pytest.raises(ExportError, match="cannot be written as ONNX"):
        export_graph(Odd(), SHAPE)


def test_a_model_that_lists_its_tensors_is_refused_without_the_slow_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lists(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(28, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.tensor(x.mean((1, 2)).tolist()))

    asked: list[nn.Module] = []
    monkeypatch.setattr(onnx_export, "_export_by_dynamo", lambda module, _: asked.append(module))
    with pytest.raises(ExportError, match="turns tensors into lists of numbers"):
        export_graph(Lists().eval(), SHAPE)
    assert not asked


def test_an_operator_that_onnx_lacks_is_named_with_its_layer_and_the_way_round() -> None:
    class Bessel(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), Bessel()).eval()
    with pytest.raises(ExportError, match=r"no operator special_bessel_j0 in layer '2'; replace it .* export as torch"):
        export_graph(module, (1, 2, 2))
