"""The C export: the same answers as ONNX Runtime's int8 kernels, and memory as promised."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import workbench as wb
from workbench.deploy.limits import place_of
from workbench.deploy.microcontroller.arena import plan_arena
from workbench.deploy.microcontroller.compiled import CompiledModel, EmulatedModel, weigh
from workbench.deploy.microcontroller.footprint import boards, fits, footprint
from workbench.deploy.microcontroller.lower import LoweringError, lower
from workbench.deploy.microcontroller.program import Op, Program, Value, multiplier_of
from workbench.deploy.microcontroller.source import write_source
from workbench.run.qdq import export_int8

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
needs_arm = pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs gcc-arm-none-eabi")
INT8 = "- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}"

Layer = tuple[str, list[tuple[int, ...]], dict[str, Any]]


def conv(out: int, depth: int, rows: int, columns: int | None = None, **attributes: Any) -> Layer:
    return "Conv", [(out, depth, rows, columns or rows), (out,)], attributes


CHAINS: dict[str, list[Layer]] = {
    "plain": [conv(5, 3, 3)],
    "pad, stride": [conv(4, 3, 3, pads=[1, 1, 1, 1], strides=[2, 2])],
    "uneven pads": [conv(4, 3, 3, 2, pads=[2, 0, 0, 1])],
    "dilated": [conv(4, 3, 3, pads=[2, 2, 2, 2], dilations=[2, 2])],
    "strides and dilations": [conv(4, 3, 3, pads=[1, 2, 1, 2], strides=[1, 2], dilations=[1, 2])],
    "grouped": [conv(6, 1, 3, group=3)],
    "depthwise": [conv(3, 1, 3, group=3, pads=[1, 1, 1, 1], strides=[2, 1])],
    "relu": [conv(4, 3, 1), ("Relu", [], {})],
    "max pool": [conv(4, 3, 1), ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]})],
    "uncovered pool": [conv(4, 3, 1), ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1})],
    "average pool": [conv(4, 3, 1), ("AveragePool", [], {"kernel_shape": [2, 4], "strides": [2, 3]})],
    "head": [conv(4, 3, 3), ("GlobalAveragePool", [], {}), ("Flatten", [], {}), ("Gemm", [(4, 7), (7,)], {})],
    "transposed Gemm": [("Flatten", [], {}), ("Gemm", [(6, 189), (6,)], {"transB": 1})],
    "softmax": [("Flatten", [], {}), ("Gemm", [(6, 189), (6,)], {"transB": 1}), ("Softmax", [], {"axis": 1})],
}


def build(layers: list[Layer], extra: Callable[[list[Any], str], str] = lambda nodes, last: last) -> onnx.ModelProto:
    """Return a model of ``layers`` on images (3, 9, 7); ``extra`` may add nodes after ``last``."""
    random = np.random.default_rng(1)
    nodes: list[Any] = []
    weights, last = [], "images"
    for place, (kind, shapes, attributes) in enumerate(layers):
        names = [f"w{place}_{index}" for index in range(len(shapes))]
        weights += [
            numpy_helper.from_array(random.standard_normal(shape, dtype=np.float32) / 3, name)
            for shape, name in zip(shapes, names, strict=True)
        ]
        nodes.append(helper.make_node(kind, [last, *names], [f"v{place}"], **attributes))
        last = f"v{place}"
    last = extra(nodes, last)
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, 9, 7])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def agree(model: onnx.ModelProto, images: np.ndarray, folder: Path) -> None:
    """Fail unless the C code's answers are what the file says, computed in floats, but for rare last codes."""
    int8 = export_int8(model, images)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(int8.SerializeToString(), options)
    wanted = session.run(None, {session.get_inputs()[0].name: images})[0]
    program = lower(int8)
    compiled = CompiledModel(write_source(program, folder)[0])
    output = program.values[program.output]
    codes = np.rint(wanted / np.float32(output.scale)) + output.zero_point
    off = np.abs(compiled.codes(images).reshape(codes.shape) - codes)
    assert off.max() <= 1
    assert (off == 0).mean() > 0.96  # means fall on ties, which floats resolve by chance


@needs_gcc
@pytest.mark.parametrize("name", CHAINS)
def test_each_kernel_answers_as_onnx_runtime_does(name: str, tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((16, 3, 9, 7), dtype=np.float32)
    agree(build(CHAINS[name]), images, tmp_path)


def _branches(nodes: list[Any], last: str) -> str:
    nodes.append(helper.make_node("Relu", [last], ["positive"]))
    nodes.append(helper.make_node("Add", [last, "positive"], ["sum"]))
    nodes.append(helper.make_node("Concat", ["positive", "sum", last], ["joined"], axis=1))
    return "joined"


@needs_gcc
def test_branches_are_added_and_joined(tmp_path: Path) -> None:
    images = np.random.default_rng(0).standard_normal((16, 3, 9, 7), dtype=np.float32)
    agree(build([conv(4, 3, 3)], _branches), images, tmp_path)


@pytest.fixture(scope="module")
def lenet5() -> tuple[onnx.ModelProto, np.ndarray]:
    data = wb.load_dataset("fashion_mnist")
    with wb.Session(wb.load_model("lenet5"), data) as session:
        model = onnx.load_from_string(session.onnx_file(wb.Recipe.parse(INT8)))
        return model, session.normalization(data["test"].images[:300]).numpy()


@needs_gcc
def test_a_trained_network_gives_the_same_classes(lenet5: tuple[onnx.ModelProto, np.ndarray], tmp_path: Path) -> None:
    model, images = lenet5
    path = write_source(lower(model), tmp_path, "lenet5")[0]
    session = ort.InferenceSession(model.SerializeToString())
    wanted = session.run(None, {session.get_inputs()[0].name: images})[0].argmax(1)
    assert (CompiledModel(path).codes(images).argmax(1) == wanted).all()


@needs_arm
@pytest.mark.skipif(shutil.which("qemu-system-arm") is None, reason="needs qemu-system-arm")
def test_an_emulated_cortex_m4_answers_to_the_byte_as_this_machine_does(
    lenet5: tuple[onnx.ModelProto, np.ndarray], tmp_path: Path
) -> None:
    model, images = lenet5
    path = write_source(lower(model), tmp_path)[0]
    assert (CompiledModel(path).codes(images[:20]) == EmulatedModel(path).codes(images[:20])).all()


@needs_arm
def test_flash_and_ram_are_what_the_compiler_takes(lenet5: tuple[onnx.ModelProto, np.ndarray], tmp_path: Path) -> None:
    program = lower(lenet5[0])
    promised, taken = footprint(program), weigh(write_source(program, tmp_path)[0])
    assert promised.flash == pytest.approx(taken.flash, rel=0.05)
    assert promised.ram == pytest.approx(taken.ram, rel=0.05)


def test_the_same_program_gives_the_same_bytes(lenet5: tuple[onnx.ModelProto, np.ndarray], tmp_path: Path) -> None:
    first, second = ([path.read_bytes() for path in write_source(lower(lenet5[0]), tmp_path)] for _ in range(2))
    assert first == second


def test_boards_are_told_apart(lenet5: tuple[onnx.ModelProto, np.ndarray]) -> None:
    verdicts = {fit.board.name: fit for fit in fits(lower(lenet5[0]))}
    assert len(verdicts) == len(boards())
    assert verdicts["Nucleo-L4R5ZI"].fits
    blue = verdicts["STM32 Blue Pill"]
    assert not blue.fits
    assert "kB of flash too little" in blue.reason
    assert "RAM" not in blue.reason


def test_an_operator_without_a_kernel_is_named() -> None:
    images = np.random.default_rng(0).standard_normal((8, 3, 9, 7), dtype=np.float32)

    def turned(nodes: list[Any], last: str) -> str:
        nodes.append(helper.make_node("Transpose", [last], ["turned"], name="shuffle", perm=[0, 2, 1, 3]))
        return "turned"

    with pytest.raises(LoweringError, match=r"no 'Transpose' \(at 'shuffle'\): replace it"):
        lower(export_int8(build([conv(4, 3, 3)], turned), images))


def test_what_is_refused_is_named_by_its_layer() -> None:
    node = helper.make_node("Tanh", ["x"], ["y"], name="/features/features.1/conv/conv.0/act/Tanh")
    assert place_of(node) == "in layer 'features.1.conv.0.act'"
    assert place_of(helper.make_node("Tanh", ["x"], ["y"], name="/Tanh")) == "at '/Tanh'"
    assert place_of(helper.make_node("Tanh", ["x"], ["y"])) == "at 'y'"


def test_a_model_in_floats_is_refused() -> None:
    with pytest.raises(LoweringError, match="is not quantized"):
        lower(build([conv(4, 3, 3)]))


@given(st.floats(1e-9, 4.0))
def test_a_multiplier_is_its_factor(factor: float) -> None:
    mantissa, shift = multiplier_of(factor)
    assert 0 <= mantissa < 2**31
    assert 0 <= shift <= 62
    assert mantissa / 2**shift == pytest.approx(factor, rel=1e-9, abs=2.0**-62)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    sizes = draw(st.lists(st.integers(1, 40), min_size=2, max_size=9))
    values = {f"v{place}": Value(f"v{place}", (size,), 1.0, 0) for place, size in enumerate(sizes)}
    ops = []
    for place in range(1, len(sizes)):
        count = draw(st.integers(1, min(2, place)))
        taken = draw(st.permutations(range(place)))[:count]
        kind = draw(st.sampled_from(["conv", "add", "rescale"]))
        ops.append(Op(kind, tuple(f"v{index}" for index in taken), f"v{place}"))
    return Program(tuple(ops), values, "v0", f"v{len(sizes) - 1}")


@given(programs())
def test_values_that_are_alive_together_never_overlap(program: Program) -> None:
    arena = plan_arena(program)
    assert arena.least <= arena.nbytes
    held: dict[int, str] = {}
    sizes = {name: value.nbytes for name, value in program.values.items()}

    def write(name: str) -> None:
        held.update(dict.fromkeys(range(arena.offsets[name], arena.offsets[name] + sizes[name]), name))

    write(program.input)
    for op in program.ops:
        for name in op.inputs:  # what an operator reads was last written by its maker
            places = range(arena.offsets[name], arena.offsets[name] + sizes[name])
            assert {held[place] for place in places} == {name}
            if not (
                op.in_place and arena.offsets[name] == arena.offsets[op.output] and sizes[name] == sizes[op.output]
            ):
                mine = range(arena.offsets[op.output], arena.offsets[op.output] + sizes[op.output])
                assert not set(places) & set(mine)
        write(op.output)
    assert max(held) < arena.nbytes
