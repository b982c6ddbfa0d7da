"""ONNX files of both of torch's exporters come back as the modules they were, for batches of any size."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from workbench.compression import compress
from workbench.models import ModelError, check_model, layers_of, load_model
from workbench.models.zoo import ARCHITECTURES, LeNet5, ResNet20
from workbench.run.onnx_export import export_graph
from workbench.run.onnx_file import onnx_file


def warm(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Give BatchNorm statistics of its own, so that nothing is an identity by chance."""
    module.train()
    with torch.no_grad():
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.uniform_(part.bias, -0.5, 0.5)
        module(torch.randn(8, *shape))
    return module.eval()


def export(module: nn.Module, path: Path, shape: tuple[int, ...], **settings) -> Path:
    images = torch.randn(2 if "dynamic_shapes" in settings else 1, *shape)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if settings.get("dynamo"):
            settings = {"verbose": False, "external_data": False} | settings
        torch.onnx.export(module, (images,), path, **settings)
    return path


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


OPEN = "dynamo, open batch"
FIXED_NEW = "dynamo, batch of 1, opset 18"
FIXED = "older, batch of 1, opset 17"
EXPORTERS = {
    OPEN: {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("n")},)},
    FIXED_NEW: {"dynamo": True, "opset_version": 18},
    FIXED: {"dynamo": False, "opset_version": 17},
    "older, unfolded": {
        "dynamo": False,
        "do_constant_folding": False,
        "export_params": True,
        "training": torch.onnx.TrainingMode.PRESERVE,
    },
}


# torch's newer exporter takes seconds a model: each of its ways once on a deep model is enough.
ZOO = [(name, exporter) for name in ARCHITECTURES for exporter in EXPORTERS if "older" in exporter and name != "lstm"]


DEEP = pytest.param("mobilenetv2", OPEN, marks=pytest.mark.slow)


@pytest.mark.parametrize(("name", "exporter"), [*ZOO, ("lenet5", FIXED_NEW), ("resnet20", OPEN), DEEP])
def test_a_zoo_model_comes_back_with_its_layers_by_name(tmp_path, name, exporter):
    module = warm(ARCHITECTURES[name](), (1, 28, 28))
    model = load_model(export(module, tmp_path / "net.onnx", (1, 28, 28), **EXPORTERS[exporter]))
    assert (model.name, model.origin, model.input_shape) == ("net", "onnx", (1, 28, 28))
    images = torch.randn(5, 1, 28, 28)
    with torch.no_grad():
        expected = module(images)
        assert torch.allclose(model.module(images), expected, atol=1e-5 * float(expected.abs().max()))
    before, after = layers_of(module, (1, 28, 28)), layers_of(model.module, (1, 28, 28))
    assert [(row.name, row.type, row.shape, row.macs) for row in after] == [
        (row.name, row.type, row.shape, row.macs) for row in before
    ]
    assert check_model(model.module, (1, 28, 28), 10) == ()


def test_an_lstm_is_refused_by_name(tmp_path):
    path = export(ARCHITECTURES["lstm"](), tmp_path / "net.onnx", (1, 28, 28), **EXPORTERS[FIXED])
    with pytest.raises(ModelError, match=r"operators the workbench does not read .*LSTM"):
        load_model(path)


@pytest.mark.slow
def test_each_opset_from_18_to_21(tmp_path):
    module, path = warm(ResNet20(width=8), (1, 28, 28)), tmp_path / "net.onnx"
    exported = onnx.load(export(module, path, (1, 28, 28), **EXPORTERS[OPEN]))
    images = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        expected = module(images)
        for opset in range(18, 22):
            onnx.save(onnx.version_converter.convert_version(exported, opset), path)
            assert torch.allclose(load_model(path).module(images), expected, atol=1e-4), opset


class TinyTransformer(nn.Module):
    """Patches, a class token, attention and layer norms: what a vision transformer is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 7, 7)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.places = nn.Parameter(torch.randn(1, 17, 16))
        self.norm = nn.LayerNorm(16)
        self.qkv = nn.Linear(16, 48)
        self.projection = nn.Linear(16, 16)
        self.mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16))
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        query, key, value = self.qkv(self.norm(x)).reshape(x.shape[0], 17, 3, 2, 8).permute(2, 0, 3, 1, 4)
        attention = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1)
        x = x + self.projection((attention @ value).transpose(1, 2).reshape(x.shape[0], 17, 16))
        x = x + self.mlp(x)
        return self.head(x[:, 0])


class Kitchen(nn.Module):
    """What else classifiers do: shuffles, splits, gates, uneven pools, global means, odd activations."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, 2, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid())
        self.left = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.act = nn.ModuleList([nn.Hardswish(), nn.LeakyReLU(0.1), nn.SiLU(), nn.ELU(), nn.PReLU(8)])
        self.pool = nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)
        self.up = nn.Upsample(scale_factor=2)
        self.grow = nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1)
        self.norm = nn.GroupNorm(2, 6)
        self.fc = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x * self.gate(x)
        for act in self.act:
            x = act(x)
        left, right = x.chunk(2, 1)
        x = torch.cat([self.left(left), right], 1)
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        x = self.grow(self.up(self.pool(x)))
        x = self.norm(nn.functional.pad(x, (1, 2, 0, 1)))
        return self.fc(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)).log_softmax(-1)


@pytest.mark.parametrize("exporter", EXPORTERS)
@pytest.mark.parametrize("make", [TinyTransformer, Kitchen])
def test_other_architectures_for_batches_of_any_size(tmp_path, make, exporter):
    module = make().eval()
    model = load_model(export(module, tmp_path / "net.onnx", (1, 28, 28), **EXPORTERS[exporter]))
    images = torch.randn(4, 1, 28, 28)
    with torch.no_grad():
        assert torch.allclose(model.module(images), module(images), atol=1e-5)
        assert torch.allclose(model.module(images[:1]), module(images[:1]), atol=1e-5)
    before = {row.name: row.shape for row in layers_of(module, (1, 28, 28))}
    assert {row.name: row.shape for row in layers_of(model.module, (1, 28, 28))} == before


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.fc = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.conv(self.conv(x))).flatten(1))


@pytest.mark.parametrize("exporter", [FIXED, FIXED_NEW])
def test_a_module_called_twice_is_one_module_again(tmp_path, exporter):
    path = export(Twice().eval(), tmp_path / "net.onnx", (1, 28, 28), **EXPORTERS[exporter])
    conv, _ = layers_of(load_model(path).module, (1, 28, 28))
    assert (conv.name, conv.macs) == ("conv", 2 * 28 * 28 * 9)


def test_the_import_can_be_exported_again_with_an_open_batch(tmp_path):
    module = warm(ResNet20(width=8), (1, 28, 28))
    first = load_model(export(module, tmp_path / "a.onnx", (1, 28, 28), **EXPORTERS[FIXED]))
    path = export(first.module, tmp_path / "b.onnx", (1, 28, 28), **EXPORTERS[OPEN])
    again = load_model(path)
    images = torch.randn(3, 1, 28, 28)
    with torch.no_grad():
        assert torch.allclose(again.module(images), module(images), atol=1e-4)


def test_images_of_open_size_need_an_input_shape(tmp_path):
    module = warm(ResNet20(width=8), (1, 28, 28))
    path = tmp_path / "net.onnx"
    export(module, path, (1, 28, 28), **EXPORTERS[FIXED], input_names=["x"], dynamic_axes={"x": [0, 2, 3]})
    with pytest.raises(ModelError, match="leaves the size of its images open"):
        load_model(path)
    assert load_model(path, input_shape=(1, 32, 32)).input_shape == (1, 32, 32)
    with pytest.raises(ModelError, match=r"takes images of \(1, any, any\), not of the given"):
        load_model(path, input_shape=(3, 32, 32))


# Files that cannot be used


@pytest.fixture
def lenet(tmp_path) -> Path:
    return export(LeNet5().eval(), tmp_path / "net.onnx", (1, 28, 28), **EXPORTERS[FIXED])


def refused(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    return said


def test_weights_kept_beside_the_file(tmp_path, lenet):
    expected = load_model(lenet).module.state_dict()
    model, folder = onnx.load(lenet), tmp_path / "apart"
    folder.mkdir()
    path = folder / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="net.data")
    got = load_model(path).module.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in got.items())
    (folder / "net.data").write_bytes((folder / "net.data").read_bytes()[:1000])
    assert "net.data is truncated" in refused(path)
    (folder / "net.data").unlink()
    assert "keeps its weights in net.data, which is missing: put it beside it" in refused(path)


def test_weights_that_point_out_of_the_folder_are_not_read(tmp_path, lenet):
    model = onnx.load(lenet)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    lenet.write_bytes(model.SerializeToString())
    assert "points outside of its folder" in refused(lenet)


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.999])
def test_a_truncated_file(lenet, share):
    lenet.write_bytes(lenet.read_bytes()[: int(share * lenet.stat().st_size)])
    assert "not a sound ONNX file" in refused(lenet)


@pytest.mark.parametrize("content", [b"hello, this is text", b"PK\x03\x04" + bytes(100), b"\x89PNG\r\n" + bytes(50)])
def test_what_is_not_onnx(tmp_path, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    assert "not a sound ONNX file" in refused(path)


def small(path: Path, *nodes: onnx.NodeProto, inputs=("x",), outputs=("y",), kind=TensorProto.FLOAT, **constants):
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, kind, ["n", 4]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "m"]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("com.example", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def test_unknown_operators_are_listed(tmp_path):
    path = small(
        tmp_path / "net.onnx",
        helper.make_node("Det", ["x"], ["a"]),
        helper.make_node("Fancy", ["a"], ["b"], domain="com.example"),
        helper.make_node("NonZero", ["b"], ["y"]),
    )
    assert "does not read (Det, NonZero, com.example.Fancy)" in refused(path)


def test_what_ours_does_not_read_goes_to_onnx2torch_where_that_imports(tmp_path, monkeypatch):
    class Sign(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sign(x)

    path = small(tmp_path / "net.onnx", helper.make_node("Sign", ["x"], ["y"]))
    library = ModuleType("onnx2torch")
    library.convert = lambda model: torch.fx.symbolic_trace(Sign())
    monkeypatch.setitem(sys.modules, "onnx2torch", library)
    model = load_model(path)
    assert model.notes[0] == "Converted by onnx2torch."
    assert model.module(torch.tensor([[-2.0, 0, 0, 3]])).tolist() == [[-1, 0, 0, 1]]
    library.convert = lambda model: torch.fx.symbolic_trace(nn.ReLU())
    assert "differs from ONNX Runtime's by" in refused(path)
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    assert "does not read (Sign)" in refused(path)


@pytest.mark.parametrize(
    "text",
    [
        "- quantize: {bits: 8}",
        "- quantize: {bits: 8, per: tensor}",
        "- quantize: {bits: 4}",
        "- quantize: {bits: 3, scheme: symmetric}",
        "- quantize: {format: fp16}",
        "- prune: {ratio: 0.5, granularity: filter}\n- quantize: {bits: 4}",
    ],
)
@pytest.mark.parametrize("name", ["lenet5", "resnet20"])
def test_a_file_whose_weights_alone_are_quantized_comes_back(tmp_path, name, text):
    """Integers and 16-bit floats are unpacked while reading, to what ONNX Runtime computes with."""
    module = warm(ARCHITECTURES[name](), (1, 28, 28))
    compressed = compress(module, text, image_shape=(1, 28, 28))
    graph = export_graph(module, (1, 28, 28))
    path = tmp_path / "net.onnx"
    file = onnx_file(graph, compressed.tensors, compressed.integers, compressed.halves)
    assert {"DequantizeLinear", "Cast"} & {node.op_type for node in file.graph.node}
    path.write_bytes(file.SerializeToString())
    model = load_model(path)
    images = torch.randn(5, 1, 28, 28)
    (expected,) = ort.InferenceSession(path).run(None, {"input": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(model.module(images), expected, atol=1e-5 * float(np.abs(expected).max()))
    layers = {layer.name: layer.type for layer in layers_of(module, (1, 28, 28))}
    assert {layer.name: layer.type for layer in layers_of(model.module, (1, 28, 28))} == layers


def test_a_quantized_file_asks_for_the_float_one(tmp_path):
    path = small(
        tmp_path / "net.onnx",
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
        s=np.array(0.1, np.float32),
        z=np.array(0, np.int8),
    )
    assert "quantized already, so give the float model" in refused(path)


def test_several_inputs_and_outputs(tmp_path):
    add = helper.make_node("Add", ["a", "b"], ["y"])
    assert "takes 2 inputs (a, b)" in refused(small(tmp_path / "net.onnx", add, inputs=("a", "b")))
    nodes = helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])
    assert "gives 2 outputs (y, z)" in refused(small(tmp_path / "net.onnx", *nodes, outputs=("y", "z")))


def test_images_that_are_not_float32(tmp_path):
    node = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)
    assert "takes images in uint8" in refused(small(tmp_path / "net.onnx", node, kind=TensorProto.UINT8))


def test_a_result_that_differs_from_onnx_runtime_is_refused(lenet, monkeypatch):
    from workbench.models.onnx_import.rules import RULES

    monkeypatch.setitem(RULES, "Relu", lambda builder, op: builder.module(op, nn.LeakyReLU(0.05), op.input(0)))
    assert "differs from ONNX Runtime's by" in refused(lenet)


def test_a_file_that_mixes_the_images_of_a_batch_is_refused(tmp_path):
    class Mixes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(784, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.flatten(1) - x.flatten(1).mean(0))

    path = export(Mixes(), tmp_path / "net.onnx", (1, 28, 28), **EXPORTERS[OPEN])
    assert "works for its own batch size only" in refused(path)
