from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from workbench.cli import main
from workbench.deploy.benchmark import Benchmark, benchmark
from workbench.deploy.benchmark.engines import EngineError, find_runtime
from workbench.deploy.benchmark.process import Request, Worker


@pytest.fixture(scope="module")
def pair(small: Path, larger: Path) -> tuple[Benchmark, ...]:
    return benchmark([small, larger], seconds=0.6)


def test_twelve_convolutions_take_several_times_as_long_as_two(pair: tuple[Benchmark, ...]) -> None:
    small, larger = pair
    assert small.ratio is None
    assert larger.ratio is not None
    assert larger.ratio.low > 2
    assert larger.ratio.low <= larger.ratio.median <= larger.ratio.high


def test_figures_hang_together(pair: tuple[Benchmark, ...]) -> None:
    for entry in pair:
        assert 0 < entry.ms.low <= entry.ms.median <= entry.ms.high
        assert entry.throughput.median == pytest.approx(1e3 / entry.ms.median)
        assert entry.rounds >= 12
        assert entry.runs >= 3 * entry.rounds
        assert entry.bytes == Path(entry.file).stat().st_size
        assert entry.memory is not None
        assert 0 < entry.memory.above_bytes < 200 << 20


def test_operators_are_those_the_runtime_fused_and_add_up_to_the_run(pair: tuple[Benchmark, ...]) -> None:
    larger = pair[1]
    convolutions = [row for row in larger.kernels if row.op in ("Conv", "FusedConv")]
    assert len(convolutions) == 12
    assert not [row for row in larger.kernels if row.op == "Relu"]
    assert sum(row.ms for row in larger.kernels) < 3 * larger.ms.high


def test_the_worker_has_the_cores_and_threads_asked_for(small: Path) -> None:
    cores = tuple(sorted(os.sched_getaffinity(0)))[:1]
    worker = Worker(Request(small, find_runtime(small), cores))
    try:
        assert os.sched_getaffinity(worker._process.pid) == set(cores)
    finally:
        worker.close()
    assert worker._process.returncode == 0


def test_a_process_that_dies_is_told_in_a_sentence(small: Path) -> None:
    worker = Worker(Request(small, find_runtime(small), (min(os.sched_getaffinity(0)),)))
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(EngineError, match=r"'small.onnx' in onnxruntime ended by itself"):
        worker.ask("visit 1000000")
    worker.close()


def test_work_on_the_same_cores_makes_the_verdict_noisy(small: Path) -> None:
    spin = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nprint(flush=True)\nwhile True: pass"
    busy = [
        subprocess.Popen([sys.executable, "-c", spin, str(core)], stdout=subprocess.PIPE)
        for core in os.sched_getaffinity(0)
    ]
    try:
        for process in busy:
            assert process.stdout is not None
            process.stdout.readline()
        (found,) = benchmark([small], seconds=0.5, kernels=False)
    finally:
        for process in busy:
            process.kill()
            process.communicate()
    assert found.noise.verdict == "noisy"
    assert found.noise.load is not None
    assert found.noise.load > 0.2


def test_one_file_keeps_the_contract_and_several_give_a_list(
    small: Path, larger: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", str(small), str(larger), "--seconds", "0.2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ms"].keys() == {"median", "low", "high"}
    assert {"name", "op", "dtype", "ms", "share"} <= report["kernels"][0].keys()
    assert sum(row["share"] for row in report["kernels"]) == pytest.approx(1)
    assert [Path(entry["file"]).name for entry in report["files"]] == ["small.onnx", "larger.onnx"]
    assert report["files"][0]["ms"] == report["ms"]


def test_a_batch_is_run_as_one(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", str(small), "--batch", "4", "--seconds", "0.2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["inputs"] == {"images": [4, 1, 28, 28]}
    assert report["throughput"]["median"] == pytest.approx(4e3 / report["ms"]["median"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{absent}"], "There is no file"),
        (["{text}"], "No runtime here reads"),
        (["{broken}"], "is no model that ONNX Runtime loads"),
        (["{small}", "--runtime", "tensorflow"], "There is no runtime 'tensorflow'"),
        (["{small}", "--runtime", "torch"], "torch reads .pt2 and .wbz"),
        (["{small}", "--threads", "4096"], "give 1 to"),
        (["{small}", "--batch", "0"], "give 1 or more"),
        (["{small}", "--shape", "3,4,5"], "takes 1×28×28, not 3×4×5"),
        (["{small}", "--shape", "big"], "is no shape"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {name: tmp_path / name for name in ("absent.onnx", "notes.txt", "broken.onnx")}
    places["notes.txt"].write_text("no model")
    places["broken.onnx"].write_bytes(b"no model")
    names = {
        "absent": places["absent.onnx"], "text": places["notes.txt"], "broken": places["broken.onnx"], "small": small,
    }  # fmt: skip
    assert main(["benchmark", *(argument.format(**names) for argument in arguments)]) == 2
    said = capsys.readouterr().err.strip()
    assert sentence in said
    assert "\n" not in said


def test_a_runtime_that_is_missing_is_offered_with_its_install_line(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.deploy.benchmark.engines.find_spec", lambda name: None)
    with pytest.raises(EngineError, match="openvino is not installed: pip install openvino"):
        find_runtime(small, "openvino")


def test_openvino_reads_the_same_file_and_names_its_kernels(small: Path) -> None:
    pytest.importorskip("openvino")
    plain, other = benchmark([small], runtimes=["onnxruntime", "openvino"], seconds=0.3)
    assert plain.runtime.startswith("onnxruntime ")
    assert other.runtime.startswith("openvino ")
    assert other.ratio is not None
    assert [row.op for row in other.kernels].count("Convolution") == 2
    assert all(row.implementation for row in other.kernels)
