from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from workbench.analyze.profile import LayerProfile, Operator, Profile, profile_baseline
from workbench.analyze.profile_nodes import Owners
from workbench.analyze.profile_torch import profile_torch
from workbench.analyze.profile_words import describe_profile
from workbench.analyze.roofline import Roofline, measure_roofline
from workbench.cli import main
from workbench.models.layers import Layer
from workbench.recipe import Recipe
from workbench.session import Session


@pytest.fixture(scope="module")
def found() -> Iterator[Profile]:
    with Session("lenet5", "fashion_mnist", history=":memory:") as session:
        yield profile_baseline(session)


def test_every_layer_has_its_time_and_the_parts_make_the_whole(found: Profile) -> None:
    assert found.runtime == "onnxruntime"
    assert [layer.name for layer in found.layers] == ["conv1", "conv2", "fc1", "fc2"]
    times = [layer.ms for layer in found.layers]
    assert all(ms is not None and ms > 0 for ms in times)
    assert all(layer.torch_ms for layer in found.layers)
    assert sum(ms or 0 for ms in times) + found.beside_ms == pytest.approx(found.ms)
    assert sum(operator.ms for operator in found.operators) == pytest.approx(found.ms)
    assert sum(operator.share for operator in found.operators) == pytest.approx(1)
    assert found.beside_ms > 0  # pooling


def test_intensity_is_work_over_bytes_moved(found: Profile) -> None:
    fc1 = found.layers[2]
    moved = 4 * (800 * 500 + 500 + 800 + 500)
    assert fc1.moved_bytes == moved
    assert fc1.intensity == pytest.approx(2 * 800 * 500 / moved)
    assert fc1.limit == "memory"  # a weight is used once
    assert fc1.attainable == pytest.approx(found.roofline.bandwidth * fc1.intensity)
    assert fc1.gflops == pytest.approx(2 * 800 * 500 / ((fc1.ms or 0) * 1e6))
    assert found.weight_bytes == 4 * 431_080


def test_the_roofline_is_of_this_machine_and_has_two_roofs() -> None:
    roof = measure_roofline()
    assert roof.peak > 1
    assert roof.bandwidth > 0.2
    assert roof.attainable(1e9) == roof.peak
    assert Roofline(100, 10).attainable(2) == 20
    assert Roofline(100, 10).ridge == 10


def test_the_peak_of_the_activations_is_what_is_held_at_once() -> None:
    wide = nn.Sequential(nn.Linear(10, 100_000, bias=False), nn.ReLU(), nn.Linear(100_000, 1, bias=False))
    profile = profile_torch(wide, ["0", "2"], torch.zeros(10))
    assert 2 * 400_000 <= profile.peak_bytes < 3 * 400_000  # what enters and what leaves the ReLU
    assert profile.layers.keys() == {"0", "2"}
    assert {"addmm", "relu"} & profile.operators.keys() or "mm" in profile.operators
    assert not wide[0]._forward_hooks


def layer(name: str, weights: tuple[str, ...] = ()) -> Layer:
    return Layer(name, "Conv2d", f"{name}.weight", (1,), 1, 1, 1, (1,), weights)


def test_fused_nodes_are_traced_to_the_layer_whose_weight_they_read() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "a.0.weight"], ["c"], name="/a/a.0/Conv"),
        helper.make_node("BatchNormalization", ["c", "a.1.weight", "b", "m", "v"], ["n"], name="/a/a.1/Norm"),
        helper.make_node("Relu", ["n"], ["r"], name="/a/a.2/Relu"),
        helper.make_node("Gemm", ["r", "fc.weight"], ["y"], name="/fc/Gemm"),
        helper.make_node("Softmax", ["y"], ["s"], name="/mix/attention/Softmax"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "s")]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]))
    owners = Owners(model, [layer("a.0"), layer("fc", ("fc.weight",)), layer("mix.attention")])
    assert owners.of("r_nchwc") == "a.0"
    assert owners.of("n_nchwc") == "a.0"
    assert owners.of("fused /fc/Gemm") == "fc"
    assert owners.of("/mix/attention/Softmax") == "mix.attention"
    assert owners.of("ReorderOutput_token_3") is None
    assert owners.of("/mix/Add") is None


def profile(**changes: object) -> Profile:
    rows = tuple(
        LayerProfile(name, kind, 10**6, size, 10**5, ms, ms, ms / 10, intensity, 20.0, 50.0, limit)
        for name, kind, size, ms, intensity, limit in (
            ("conv", "Conv2d", 1_000, 7.0, 40.0, "compute"), ("fc", "Linear", 99_000, 1.0, 0.5, "memory"),
        )
    )  # fmt: skip
    operators = (Operator("Conv", 7, 0.7, 1),)
    whole = Profile("m", "onnxruntime", 10.0, 2.0, 20.0, 100_000, 300_000, Roofline(100, 5), rows, operators, ())
    return replace(whole, **changes)  # type: ignore[arg-type]


def test_words_follow_from_the_figures_and_suggestions_can_be_run() -> None:
    words = describe_profile(profile())
    assert words.dominates[0].endswith("70% go to 1 of 2 layers: conv.")
    assert "99% are in 1 of 2 layers: fc" in words.dominates[1]
    assert "20% of the time is in no layer" in words.dominates[2]
    assert any("Removing channels shrinks what 70% of the time goes to" in one for one in words.helps)
    assert any("99% of the weights are in matrices" in one for one in words.helps)
    assert any("activations make it" in one for one in words.does_not)
    for suggestion in words.suggestions:
        assert Recipe.parse(suggestion.recipe)
    quiet = describe_profile(profile(beside_ms=0.1, peak_bytes=1_000))
    assert not any("no layer" in one for one in (*quiet.dominates, *quiet.does_not))
    assert not any("peak of memory" in one for one in quiet.does_not)


def test_the_verb_prints_json_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "--model", "lenet300", "--data", "fashion_mnist", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in printed["layers"]] == ["fc1", "fc2", "fc3"]
    assert printed["roofline"].keys() == {"peak", "bandwidth", "ridge"}
    assert printed["words"]["suggestions"]
    assert main(["profile", "--model", "lenet300", "--data", "fashion_mnist"]) == 0
    assert "roofline:" in capsys.readouterr().out
