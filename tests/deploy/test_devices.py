from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.conftest import convolutions
from workbench.cli import main
from workbench.measure.devices import DeviceError, Observation, find_target, read_description, targets, work_of
from workbench.measure.devices.calibrate import calibrate, forecast, forecast_ratio
from workbench.measure.devices.population import learn, populations
from workbench.measure.devices.profiles import read_profile
from workbench.measure.devices.published import configurations, networks
from workbench.measure.devices.roofline import TERMS, log_time
from workbench.measure.devices.target import device_titles
from workbench.measure.latency import fused_kernels
from workbench.measure.latency.profiler import profile

#: The multiply-accumulates that the networks' papers give, in millions.
MACS = {
    "resnet50": 3858,
    "mobilenet_v2": 314,
    "vgg16": 15470,
    "resnet8": 12.5,
    "mobilenet_v1_025": 7.49,
    "ds_cnn": 2.66,
}
FILE = Path(__file__).parents[2] / "workbench/measure/devices/described/raspberry-pi-5.yaml"


def test_published_networks_have_the_multiplications_their_papers_give() -> None:
    for name, millions in MACS.items():
        work = networks()[name]
        assert (work.macs * work.count).sum() / 1e6 == pytest.approx(millions, rel=0.02)


def test_slopes_are_those_of_the_times() -> None:
    machine = configurations()["raspberry-pi-5-4t"].machine
    u = np.linspace(-0.5, 1.5, len(TERMS))
    work = networks()["mobilenet_v2"]
    _, slopes = log_time(work, machine, "float", u)
    for term in range(len(TERMS)):
        step = 1e-5 * np.eye(len(TERMS))[term]
        found = (log_time(work, machine, "float", u + step)[0] - log_time(work, machine, "float", u - step)[0]) / 2e-5
        assert slopes[term] == pytest.approx(found, abs=1e-6)


def test_kernels_of_a_graph_become_the_work_of_its_layers() -> None:
    work = work_of(fused_kernels(convolutions(3), (1, 28, 28), block=0))
    assert [task.op for task in work.tasks] == ["conv3x3", "conv3x3", "conv3x3", "elementwise", "dense"]
    assert list(work.macs[:3]) == [28 * 28 * 9 * 16, 28 * 28 * 9 * 256, 28 * 28 * 9 * 256]
    assert list(work.weights[[0, 1, 4]]) == [144, 2304, 160]


def test_an_anchor_narrows_the_interval_and_moves_the_figure_to_it() -> None:
    target = find_target("a100-sxm")
    work = networks()["resnet50"]
    before = target.forecast(work, "float")
    after = target.with_anchors([Observation(work, "float", before.ms * 2)]).forecast(work, "float")
    assert after.width < before.width
    assert before.ms * 1.4 < after.ms < before.ms * 2.1


def test_an_anchor_in_floats_tells_about_eight_bits_too() -> None:
    entry = configurations()["raspberry-pi-4-4t"]
    prior = populations()["cpu"].belief(entry.machine)
    work = networks()["resnet50"]
    before = forecast(entry.machine, prior, work, "int8")
    slow = Observation(work, "float", 3 * forecast(entry.machine, prior, work, "float").ms)
    after = forecast(entry.machine, calibrate(entry.machine, prior, [slow]), work, "int8")
    assert after.ms > 1.2 * before.ms
    assert after.width < before.width


def test_ratios_are_surer_than_milliseconds() -> None:
    for target in (one for one in targets() if one.anchors < 4):
        dense, half = networks()["resnet50"], networks()["resnet18"]
        ratio = target.ratio((dense, "float"), (half, "float"))
        assert ratio.width < target.forecast(half, "float").width
        assert target.ratio((dense, "float"), (dense, "float")).width == 1


def test_intervals_of_ratios_hold_what_was_published() -> None:
    held = []
    for entry in configurations().values():
        if entry.name.endswith("-4t"):
            belief = populations()["cpu"].belief(entry.machine)
            floats = {item.network: item.ms for item in entry.measured if item.dtype == "float"}
            for item in (one for one in entry.measured if one.dtype == "int8" and one.network in floats):
                work = networks()[item.network]
                found = forecast_ratio(entry.machine, belief, (work, "float"), (work, "int8"))
                held.append(found.low <= item.ms / floats[item.network] <= found.high)
    assert len(held) > 100
    assert 0.85 <= np.mean(held) <= 0.97


def test_a_machine_left_out_is_predicted_from_three_others_of_its_kind() -> None:
    # the whole of it, on all machines, is tests/bench/devices.py
    names = [f"{name}-1t" for name in ("raspberry-pi-3b-plus", "raspberry-pi-4", "jetson-nano", "snapdragon-810",
                                       "khadas-vim3", "ft-2000-4", "kirin-970", "snapdragon-835")]  # fmt: skip
    entries = [configurations()[name] for name in names]
    left, others = entries[1], [entries[0], *entries[2:]]
    population = learn([(entry.machine, entry.observations()) for entry in others], rounds=3)
    seen = left.observations("float")
    belief = calibrate(left.machine, population.belief(left.machine), seen[:3])
    found = [forecast(left.machine, belief, item.work, item.dtype) for item in seen[3:]]
    errors = [abs(one.ms / item.ms - 1) for one, item in zip(found, seen[3:], strict=True)]
    assert np.median(errors) < 0.2
    held = [one.low <= item.ms <= one.high for one, item in zip(found, seen[3:], strict=True)]
    assert np.mean(held) > 0.8


def test_two_of_four_only_pays_where_the_device_has_sparse_instructions() -> None:
    kernels = [replace(kernel, weight=f"{kernel.weight}.weight") for kernel in
               fused_kernels(convolutions(12, 256), (1, 28, 28), block=0)]  # fmt: skip
    work = work_of(kernels)
    sparse = work.with_sparse([f"w{place}" for place in range(1, 12)])
    assert sparse.sparse.sum() == 11
    for name, gains in (("a100-sxm", True), ("raspberry-pi-5", False)):
        target = find_target(name)
        ratio = target.ratio((work, "float"), (sparse, "float")).ms
        assert (ratio < 0.999) == gains


def test_energies_of_microcontrollers_hold_what_was_measured() -> None:
    for name, table in (("cortex-m4-nucleo-l4r5zi", "nucleo-l4r5zi-x-cube-ai"),
                        ("cortex-m7-nucleo-h7a3zi", "nucleo-h7a3zi-x-cube-ai")):  # fmt: skip
        target, entry = find_target(name), configurations()[table]
        for item in entry.measured:
            found = target.forecast(networks()[item.network], "int8")
            assert target.description.power is not None
            if item.microjoules is not None:
                low, high = found.low * target.description.power.idle_w, found.high * target.description.power.busy_w
                assert low * 1e3 <= item.microjoules <= high * 1e3


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("gbs: 17.1", "gbs: fast"), "line 14, field memory.gbs"),
        (("clock_ghz: 2.4", "clock: 2.4"), "field clock_ghz"),
        (("dtype: fp16", "dtype: fp17"), "line 12, field peaks.1.dtype"),
        (("floats: fp16", "floats: tf32"), "peaks has none for tf32"),
        (("family: cpu", "family: [cpu"), "line"),
        (("idle_w: 2.7", "idle_w: 27"), "busy_w is less than idle_w"),
    ],
)
def test_a_broken_device_file_is_told_with_field_and_line(
    change: tuple[str, str], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "raspberry-pi-5.yaml"
    text = FILE.read_text()
    assert change[0] in text
    path.write_text(text.replace(*change))
    with pytest.raises(DeviceError) as caught:
        read_description(path)
    assert sentence in str(caught.value)
    assert "raspberry-pi-5.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_device_has_peaks_memory_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert entries[0]["kind"] == "this machine"
    assert {"raspberry-pi-4", "raspberry-pi-5", "a100-sxm", "h100-sxm"} <= {entry["name"] for entry in entries}
    for entry in entries[1:]:
        assert entry["kind"] == "described"
        assert all({"dtype", "gops", "instructions"} == peak.keys() for peak in entry["peaks"])
        assert all(source["url"].startswith("https://") for source in entry["sources"])
        assert entry["overhead_us"] > 0
        assert entry["memory"]["gbs"] > 0


def test_titles_are_those_of_the_files() -> None:
    assert device_titles() == {target.name: target.description.title for target in targets()}


def evaluate(capsys: pytest.CaptureFixture[str], recipe: str, tmp_path: Path, *more: str) -> dict[str, object]:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe)
    command = ["evaluate", "--model", "lenet300", "--data", "fashion_mnist", "--recipe", str(path), "--json", *more]
    assert main(command) == 0
    report: dict[str, object] = json.loads(capsys.readouterr().out)
    return report


def test_evaluate_predicts_on_a_device_from_a_persons_anchor(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = "- prune: {granularity: 'n:m'}"
    found = evaluate(capsys, recipe, tmp_path, "--device", "raspberry-pi-5", "--anchor", "dense=5")
    assert found["latency"]["device"].startswith("Raspberry Pi 5")  # type: ignore[index]
    assert "2:4 sparsity gains nothing here" in found["latency"]["reason"]  # type: ignore[index]
    assert found["device"]["ratio"]["value"] == 1  # type: ignore[index]
    assert found["device"]["energy"]["mj"] > 0  # type: ignore[index]
    assert found["latency"]["ms"] == pytest.approx(5, rel=0.3)  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--device", "toaster"], "There is no device 'toaster'"),
        (["--device", "nowhere.yaml"], "There is no device file"),
        (["--anchor", "dense=3"], "give it with --device"),
        (["--device", "raspberry-pi-5", "--anchor", "dense"], "is no measurement"),
        (["--device", "raspberry-pi-5", "--anchor", "resnet51=3"], "neither dense"),
        (["--device", "raspberry-pi-5", "--profile", "recipe.yaml"], "cannot be read"),
    ],
)
def test_bad_devices_and_anchors_are_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "--model", "lenet300", "--data", "fashion_mnist", *arguments]) == 2
    assert sentence in capsys.readouterr().err


OPENVINO_CSV = """layerName;execStatus;layerType;execType;realTime (ms);cpuTime (ms)
input;Status.NOT_RUN;Parameter;unknown_f32;0.000;0.000
/conv1/Conv/WithoutBiases;Status.EXECUTED;Convolution;brgconv_avx2_f32;0.250;0.250
/dw/Conv;Status.EXECUTED;GroupConvolution;jit_dw_avx2_f32;0.125;0.125
/pool/MaxPool;Status.EXECUTED;MaxPool;jit_avx2_f32;0.050;0.050
/fc1/Gemm;Status.EXECUTED;FullyConnected;brgemm_avx2_f32;0.075;0.075
Total;;;;0.500;0.500

"""
TFLITE = """INFO: Inference timings in us: Init: 1523, First inference: 15234, Warmup (avg): 12890, Inference (avg): 500
Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t    0.260\t    0.250\t 50.000%\t 50.000%\t     0.000\t        1\t[conv]:0
\t       DEPTHWISE_CONV_2D\t    0.130\t    0.125\t 25.000%\t 75.000%\t     0.000\t        1\t[dw]:1
\t             MAX_POOL_2D\t    0.050\t    0.050\t 10.000%\t 85.000%\t     0.000\t        1\t[pool]:2
\t         FULLY_CONNECTED\t    0.080\t    0.075\t 15.000%\t100.000%\t     0.000\t        1\t[fc]:3

============================== Top by Computation Time ==============================
"""


@pytest.mark.parametrize(("name", "text"), [("report.csv", OPENVINO_CSV), ("tflite.txt", TFLITE)])
def test_profiles_of_other_tools_are_added_up_by_kind(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    found = read_profile(path)
    assert found.ms == pytest.approx({"convolution": 0.25, "depthwise": 0.125, "dense": 0.075, "other": 0.05})


def test_a_profile_of_onnx_runtime_calibrates_a_device_to_what_it_took(small: Path, tmp_path: Path) -> None:
    import onnx

    from workbench.measure.latency.measured import open_session

    model = onnx.load(small)
    session = open_session(model, profile_to=str(tmp_path / "ort"))
    feeds = {"images": np.zeros((1, 1, 28, 28), np.float32)}
    for _ in range(10):
        session.run(None, feeds)
    found = read_profile(Path(session.end_profiling()))
    assert found.tool == "ONNX Runtime"
    assert found.total == pytest.approx(sum(node.ns for node in profile(model, feeds)) / 1e6, rel=0.7)
    work = work_of(fused_kernels(model, (1, 28, 28), block=0))
    target = find_target("raspberry-pi-4").with_anchors(found.observations(work, "float"))
    assert target.forecast(work, "float").ms == pytest.approx(found.total, rel=0.5)


def test_what_is_no_profile_is_refused(tmp_path: Path) -> None:
    for name, text in (("a.json", "{}"), ("b.txt", "hello"), ("c.csv", "a;b\n1;2\n")):
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(DeviceError, match="no profile of benchmark_app"):
            read_profile(path)
