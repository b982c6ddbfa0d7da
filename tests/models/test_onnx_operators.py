"""Each operator by itself, in graphs built by hand, against ONNX Runtime at another batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from workbench.models import ModelError, load_model

RANDOM = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def node(operator: str, inputs: str, output: str = "y", **attributes) -> onnx.NodeProto:
    """Return a node; inputs are one word, separated by commas, empty where left out."""
    return helper.make_node(
        operator, inputs.split(",") if inputs else [], output.split(","), name=f"n_{output}", **attributes
    )


def save(path: Path, nodes, shape, constants, opset: int = 21, batch: int | str = "n") -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
        [onnx.ValueInfoProto(name="y", type=helper.make_tensor_type_proto(TensorProto.FLOAT, []))],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model)
    rank = len(inferred.graph.output[0].type.tensor_type.shape.dim) or 2
    names = [f"d{index}" for index in range(rank)]
    graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, names))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, path)
    return path


def run_onnx(path: Path, images: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"x": images.numpy()})[0])


def imported(path: Path, shape: tuple[int, ...]) -> nn.Module:
    """Return the imported module after comparing it with ONNX Runtime on four images."""
    module = load_model(path).module
    images = torch.randn(4, *shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        got, expected = module(images), run_onnx(path, images)
    assert got.shape == expected.shape
    assert torch.allclose(got, expected, atol=1e-5, rtol=1e-4)
    return module


IMAGE = (4, 9, 11)
W = {"w": array(6, 4, 3, 3), "b": array(6)}
NORM = {"w": array(4), "b": array(4), "m": array(4), "v": array(4) ** 2 + 0.5}

#: name -> nodes, constants, and the module the operator becomes (None where it becomes a function).
CASES = {
    "Conv": ([node("Conv", "x,w,b", strides=[2, 1], pads=[1, 0, 1, 0])], W, nn.Conv2d),
    "Conv, uneven pads": ([node("Conv", "x,w", pads=[0, 1, 2, 3])], W, nn.Conv2d),
    "Conv, same upper": ([node("Conv", "x,w,b", auto_pad="SAME_UPPER", strides=[2, 2])], W, nn.Conv2d),
    "Conv, same lower": ([node("Conv", "x,w,b", auto_pad="SAME_LOWER", strides=[2, 2])], W, nn.Conv2d),
    "Conv, valid": ([node("Conv", "x,w,b", auto_pad="VALID", dilations=[2, 2])], W, nn.Conv2d),
    "Conv, groups": ([node("Conv", "x,w,b", group=2)], {"w": array(6, 2, 3, 3), "b": array(6)}, nn.Conv2d),
    "ConvTranspose": (
        [node("ConvTranspose", "x,w,b", strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1], group=2)],
        {"w": array(4, 3, 3, 3), "b": array(6)},
        nn.ConvTranspose2d,
    ),
    "BatchNormalization": ([node("BatchNormalization", "x,w,b,m,v", epsilon=1e-3)], NORM, nn.BatchNorm2d),
    "InstanceNormalization": ([node("InstanceNormalization", "x,w,b")], NORM, nn.InstanceNorm2d),
    "GroupNormalization": ([node("GroupNormalization", "x,w,b", num_groups=2)], NORM, nn.GroupNorm),
    "LayerNormalization": (
        [node("LayerNormalization", "x,w,b", axis=-1)],
        {"w": array(11), "b": array(11)},
        nn.LayerNorm,
    ),
    "Relu": ([node("Relu", "x")], {}, nn.ReLU),
    "Clip to ReLU6": ([node("Clip", "x,l,h")], {"l": np.float32(0), "h": np.float32(6)}, nn.ReLU6),
    "Clip below": ([node("Clip", "x,l")], {"l": np.float32(0)}, nn.ReLU),
    "Clip": ([node("Clip", "x,l,h")], {"l": np.float32(-0.5), "h": np.float32(0.7)}, nn.Hardtanh),
    "LeakyRelu": ([node("LeakyRelu", "x", alpha=0.2)], {}, nn.LeakyReLU),
    "PRelu": ([node("PRelu", "x,w")], {"w": array(4, 1, 1)}, nn.PReLU),
    "Sigmoid": ([node("Sigmoid", "x")], {}, nn.Sigmoid),
    "HardSigmoid": ([node("HardSigmoid", "x", alpha=1 / 6, beta=0.5)], {}, nn.Hardsigmoid),
    "HardSigmoid, another slope": ([node("HardSigmoid", "x")], {}, None),
    "HardSwish": ([node("HardSwish", "x")], {}, nn.Hardswish),
    "Tanh": ([node("Tanh", "x")], {}, nn.Tanh),
    "Gelu": ([node("Gelu", "x", approximate="tanh")], {}, nn.GELU),
    "Softmax": ([node("Softmax", "x", axis=1)], {}, nn.Softmax),
    "MaxPool": (
        [node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])],
        {},
        nn.MaxPool2d,
    ),
    "MaxPool, uneven": ([node("MaxPool", "x", kernel_shape=[2, 3], pads=[0, 0, 1, 1])], {}, nn.MaxPool2d),
    "MaxPool, ceil": (
        [node("MaxPool", "x", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)],
        {},
        nn.MaxPool2d,
    ),
    "AveragePool": ([node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], {}, nn.AvgPool2d),
    "AveragePool, padding counted": (
        [node("AveragePool", "x", kernel_shape=[3, 3], pads=[0, 0, 1, 1], count_include_pad=1)],
        {},
        nn.AvgPool2d,
    ),
    "GlobalAveragePool": ([node("GlobalAveragePool", "x")], {}, nn.AdaptiveAvgPool2d),
    "GlobalMaxPool": ([node("GlobalMaxPool", "x")], {}, nn.AdaptiveMaxPool2d),
    "ReduceMean of pixels": (
        [node("ReduceMean", "x,a", keepdims=0)],
        {"a": ints(-1, -2)},
        nn.AdaptiveAvgPool2d,
    ),
    "ReduceMean": ([node("ReduceMean", "x,a")], {"a": ints(1)}, None),
    "ReduceSum": ([node("ReduceSum", "x,a", keepdims=0)], {"a": ints(1, 3)}, None),
    "ReduceMax": ([node("ReduceMax", "x,a", keepdims=0)], {"a": ints(2)}, None),
    "ReduceL2": ([node("ReduceL2", "x,a")], {"a": ints(1)}, None),
    "LRN": ([node("LRN", "x", size=3, alpha=0.1)], {}, nn.LocalResponseNorm),
    "Add": ([node("Add", "x,c")], {"c": array(4, 1, 1)}, None),
    "Sub from a number": ([node("Sub", "c,x")], {"c": np.float32(2)}, None),
    "Mul with itself": ([node("Mul", "x,x")], {}, None),
    "Div": ([node("Div", "x,c")], {"c": np.float32(3)}, None),
    "Pow": ([node("Pow", "x,c")], {"c": np.float32(2)}, None),
    "Min": ([node("Min", "x,c")], {"c": array(11)}, None),
    "Erf": ([node("Erf", "x")], {}, None),
    "Concat": ([node("Relu", "x", "a"), node("Concat", "x,a", axis=1)], {}, None),
    "Split": ([node("Split", "x,s", "a,b", axis=1), node("Concat", "b,a", axis=1)], {"s": ints(1, 3)}, None),
    "Split in parts": (
        [node("Split", "x", "a,b", axis=3, num_outputs=2), node("Concat", "b,a", axis=3)],
        {},
        None,
    ),
    "Flatten": ([node("Flatten", "x")], {}, None),
    "Flatten at 2": ([node("Flatten", "x", axis=2)], {}, None),
    "Reshape, batch copied": ([node("Reshape", "x,s")], {"s": ints(0, 2, -1)}, None),
    "Reshape, batch inferred": ([node("Reshape", "x,s")], {"s": ints(-1, 2, 198)}, None),
    "Transpose": ([node("Transpose", "x", perm=[0, 2, 3, 1])], {}, None),
    "Unsqueeze, Squeeze": (
        [node("Unsqueeze", "x,a", "u"), node("Squeeze", "u,b")],
        {"a": ints(1, 5), "b": ints(1)},
        None,
    ),
    "Identity, Dropout": (
        [node("Identity", "x", "i"), node("Dropout", "i", "d"), node("Tanh", "d")],
        {},
        nn.Tanh,
    ),
    "Pad": ([node("Pad", "x,p,v")], {"p": ints(0, 0, 1, 2, 0, 1, 0, 3), "v": np.float32(0.5)}, None),
    "Pad by axes": ([node("Pad", "x,p,,a", mode="reflect")], {"p": ints(1, 2), "a": ints(3)}, None),
    "Pad with the edge": ([node("Pad", "x,p", mode="edge")], {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}, None),
    "Slice": (
        [node("Slice", "x,s,e,a,t")],
        {"s": ints(1, 0), "e": ints(2**62, -1), "a": ints(2, 3), "t": ints(2, 1)},
        None,
    ),
    "Gather": ([node("Gather", "x,i", axis=1)], {"i": ints(2, 0, -1)}, None),
    "Gather one": ([node("Gather", "x,i", axis=2)], {"i": np.array(-2)}, None),
    "Resize, nearest": (
        [node("Resize", "x,,s", coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        {"s": np.array([1, 1, 2, 3], np.float32)},
        nn.Upsample,
    ),
    "Resize, linear": (
        [node("Resize", "x,,,s", mode="linear", axes=[2, 3])],
        {"s": ints(18, 22)},
        nn.Upsample,
    ),
    "Resize, corners aligned": (
        [
            node("Shape", "x", "n", end=2),
            node("Concat", "n,s", "t", axis=0),
            node("Resize", "x,,,t", mode="linear", coordinate_transformation_mode="align_corners"),
        ],
        {"s": ints(18, 22)},
        nn.Upsample,
    ),
    "Shape, Slice, Concat, Reshape": (
        [
            node("Shape", "x", "s"),
            node("Slice", "s,zero,one", "n"),
            node("Concat", "n,rest", "t", axis=0),
            node("Reshape", "x,t"),
        ],
        {"zero": ints(0), "one": ints(1), "rest": ints(9, -1)},
        None,
    ),
    "images times two by their count": (
        [
            node("Shape", "x", "s", end=1),
            node("Mul", "s,two", "twice"),
            node("Concat", "twice,rest", "t", axis=0),
            node("Reshape", "x,t", "r"),
            node("Relu", "r", "q"),
            node("Shape", "x", "back"),
            node("Reshape", "q,back"),
        ],
        {"two": ints(2), "rest": ints(2, 9, 11)},
        nn.ReLU,
    ),
    "DequantizeLinear of weights": (
        [node("DequantizeLinear", "q,s,z", "w", axis=0), node("Conv", "x,w")],
        {
            "q": RANDOM.integers(-128, 127, (6, 4, 3, 3)).astype(np.int8),
            "s": np.abs(array(6)) + 0.01,
            "z": np.zeros(6, np.int8),
        },
        nn.Conv2d,
    ),
    "Constant": (
        [node("Constant", "", "c", value=numpy_helper.from_array(array(4, 1, 1))), node("Mul", "x,c")],
        {},
        None,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_operator(tmp_path, name):
    nodes, constants, expected = CASES[name]
    constants = {key: np.asarray(value) for key, value in constants.items()}
    module = imported(save(tmp_path / "net.onnx", nodes, IMAGE, constants), IMAGE)
    if expected is not None:
        assert any(isinstance(part, expected) for part in module.modules())


OLD = {
    "Clip": (6, [node("Clip", "x", min=0.0, max=6.0)], {}),
    "Softmax": (11, [node("Softmax", "x", axis=3)], {}),
    "Squeeze": (11, [node("Unsqueeze", "x", "u", axes=[1]), node("Squeeze", "u", axes=[1])], {}),
    "Split": (11, [node("Split", "x", "a,b", axis=1, split=[1, 3]), node("Concat", "b,a", axis=1)], {}),
    "Pad": (10, [node("Pad", "x", pads=[0, 0, 1, 1, 0, 0, 1, 1])], {}),
    "ReduceMean": (13, [node("ReduceMean", "x", axes=[2, 3])], {}),
    "Slice": (9, [node("Slice", "x", starts=[1], ends=[5], axes=[2])], {}),
    "Upsample": (9, [node("Upsample", "x,s")], {"s": np.array([1, 1, 2, 2], np.float32)}),
}


@pytest.mark.parametrize("name", OLD)
def test_settings_that_were_attributes_in_older_opsets(tmp_path, name):
    opset, nodes, constants = OLD[name]
    imported(save(tmp_path / "net.onnx", nodes, IMAGE, constants, opset), IMAGE)


# Matrix products become Linear


def linear_of(path: Path, shape: tuple[int, ...]) -> nn.Linear:
    module = imported(path, shape)
    (layer,) = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return layer


@pytest.mark.parametrize("turned", [0, 1])
def test_gemm_is_a_linear_with_its_factors_worked_in(tmp_path, turned):
    constants = {"w": array(5, 7) if turned else array(7, 5), "c": array(1, 5)}
    gemm = node("Gemm", "x,w,c", alpha=0.5, beta=2.0, transB=turned)
    layer = linear_of(save(tmp_path / "net.onnx", [gemm], (7,), constants), (7,))
    assert (layer.in_features, layer.out_features) == (7, 5)
    assert np.allclose(layer.bias, 2 * constants["c"][0])


def test_matmul_and_the_bias_added_next_are_one_linear(tmp_path):
    nodes = [node("MatMul", "x,fc.weight_t", "p"), node("Add", "fc.bias,p")]
    constants = {"fc.weight_t": array(7, 5), "fc.bias": array(5)}
    path = save(tmp_path / "net.onnx", nodes, (3, 7), constants)
    assert np.allclose(linear_of(path, (3, 7)).bias, constants["fc.bias"])
    assert isinstance(load_model(path).module.get_submodule("fc"), nn.Linear)


def test_a_product_that_is_used_twice_keeps_its_bias_apart(tmp_path):
    nodes = [node("MatMul", "x,w", "p"), node("Add", "p,b", "q"), node("Mul", "p,q")]
    path = save(tmp_path / "net.onnx", nodes, (7,), {"w": array(7, 5), "b": array(5)})
    assert linear_of(path, (7,)).bias is None


def test_an_embedding_of_integers(tmp_path):
    nodes = [
        node("Abs", "x", "p"),
        node("Cast", "p", "i", to=TensorProto.INT64),
        node("Gather", "words.weight,i", "e"),
        node("ReduceMean", "e,a", keepdims=0),
    ]
    constants = {"words.weight": array(9, 3), "a": ints(1)}
    module = imported(save(tmp_path / "net.onnx", nodes, (6,), constants), (6,))
    assert isinstance(module.get_submodule("words"), nn.Embedding)


# Names


def test_layers_are_named_after_weights_then_nodes_then_operators(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "stage1.0.conv1.weight"], ["a"], name="whatever"),
        helper.make_node("Conv", ["a", "onnx::Conv_7"], ["b"], name="/stage1/stage1.1/conv/Conv"),
        helper.make_node("Conv", ["b", "third"], ["c"]),
        helper.make_node("Conv", ["c", "block/conv/kernel"], ["d"]),
        helper.make_node("Relu", ["d"], ["y"], name="/stage1/stage1.1/conv/Relu"),
    ]
    weights = ["stage1.0.conv1.weight", "onnx::Conv_7", "third", "block/conv/kernel"]
    path = save(tmp_path / "net.onnx", nodes, (2, 5, 5), {name: array(2, 2, 1, 1) for name in weights})
    module = imported(path, (2, 5, 5))
    layers = [name for name, part in module.named_modules() if isinstance(part, nn.Conv2d)]
    assert sorted(layers) == ["block.conv", "conv", "stage1.0.conv1", "stage1.1.conv"]
    assert isinstance(module.get_submodule("stage1.1.conv_1"), nn.ReLU)


@pytest.mark.parametrize("weight", ["forward.weight", "a b.c-d.weight", "..weight", "training.type.weight", "é.weight"])
def test_odd_names_become_usable_ones(tmp_path, weight):
    path = save(tmp_path / "net.onnx", [node("Conv", f"x,{weight}")], (2, 5, 5), {weight: array(2, 2, 1, 1)})
    module = imported(path, (2, 5, 5))
    assert any(isinstance(part, nn.Conv2d) for part in module.modules())


def test_a_layer_inside_another_layers_name_stays_apart(tmp_path):
    nodes = [node("Conv", "x,conv.weight", "a"), node("Conv", "a,conv.extra.weight")]
    constants = {"conv.weight": array(2, 2, 1, 1), "conv.extra.weight": array(2, 2, 1, 1)}
    module = imported(save(tmp_path / "net.onnx", nodes, (2, 5, 5), constants), (2, 5, 5))
    assert {name for name, part in module.named_modules() if isinstance(part, nn.Conv2d)} == {
        "conv",
        "conv_.extra",
    }


# Fixed batches


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("target", [(1, -1), (1, 396), (1, 2, 198), (-1, 396)])
def test_a_fixed_batch_in_a_reshape_becomes_any_batch(tmp_path, batch, target):
    sizes = ints(target[0] * batch if target[0] > 0 else -1, *target[1:])
    path = save(tmp_path / "net.onnx", [node("Reshape", "x,s")], IMAGE, {"s": sizes}, batch=batch)
    module = load_model(path).module
    images = torch.randn(2 * batch, *IMAGE)
    expected = torch.cat([run_onnx(path, part) for part in images.split(batch)])
    assert torch.equal(module(images), expected)
    assert len(module(images[:1])) == 1


def test_a_fixed_class_token_is_repeated_over_any_batch(tmp_path):
    path = save(tmp_path / "net.onnx", [node("Concat", "t,x", axis=1)], (3, 7), {"t": array(1, 1, 7)}, batch=1)
    assert load_model(path).module(torch.zeros(5, 3, 7)).shape == (5, 4, 7)


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ([node("Slice", "x,s,e")], {"s": ints(0), "e": ints(1)}),
        ([node("Gather", "x,i", axis=0)], {"i": ints(0)}),
    ],
    ids=["Slice", "Gather"],
)
def test_what_takes_single_images_of_a_batch_is_refused(tmp_path, nodes, constants):
    path = save(tmp_path / "net.onnx", nodes, IMAGE, constants, batch=2)
    with pytest.raises(ModelError, match="takes some images of the batch"):
        load_model(path)


def test_a_use_that_torch_has_no_equal_for_names_the_node(tmp_path):
    path = save(tmp_path / "net.onnx", [node("Softmax", "x", axis=1)], IMAGE, {}, opset=11)
    with pytest.raises(ModelError, match="the Softmax 'n_y' runs over several dimensions at once"):
        load_model(path)
