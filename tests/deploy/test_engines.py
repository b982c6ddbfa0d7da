"""Runtimes beside ONNX Runtime and OpenVINO in the harness: each opens what the exports write, and times it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.conftest import Write
from workbench.deploy.benchmark import benchmark
from workbench.deploy.benchmark.engines import EngineError, find_runtime

#: Format → the runtime that is meant, and how its version begins.
FILES = {
    "executorch": ("executorch", "executorch "),
    "executorch-int8": ("executorch", "executorch "),
    "litert": ("litert", "litert "),
    "litert-int8": ("litert", "litert "),
    "tvm": ("tvm", "tvm "),
    "torch": ("torch", "torch "),
    "aot-inductor": ("aot-inductor", "torch "),
}


@pytest.mark.parametrize(
    ("name", "runtime"),
    [("a.pte", "executorch"), ("a.int8.tflite", "litert"), ("a.tvm.so", "tvm"), ("a.pt2", "torch"),
     ("A.AOT.pt2", "aot-inductor"), ("a.onnx", "onnxruntime")],
)  # fmt: skip
def test_a_file_s_ending_tells_what_runs_it_and_a_missing_runtime_how_to_get_it(
    name: str, runtime: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr("workbench.deploy.benchmark.engines.find_spec", lambda name: object())
    assert find_runtime(tmp_path / name).name == runtime
    monkeypatch.setattr("workbench.deploy.benchmark.engines.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=f"{runtime} is not installed: pip install "):
        find_runtime(tmp_path / name)


def test_one_program_runs_in_several_of_pytorchs_ways(tmp_path: Path) -> None:
    (tmp_path / "a.pt2").write_bytes(b"")
    assert find_runtime(tmp_path / "a.pt2", "torch-compile").name == "torch-compile"
    assert find_runtime(tmp_path / "a.pt2", "aot-inductor").name == "aot-inductor"


@pytest.mark.slow
@pytest.mark.timeout(900)  # compilers, which take several times as long beside other work
@pytest.mark.parametrize("format", FILES)
def test_what_the_exports_write_is_timed(format: str, written: Write) -> None:
    name, version = FILES[format]
    ((path, _), *_) = written(format).files
    (found,) = benchmark([path], shape=(1, 28, 28), seconds=0.3)
    assert find_runtime(Path(path)).name == name
    assert found.runtime.startswith(version)
    assert 0 < found.ms.low <= found.ms.median
    assert list(found.inputs.values()) == [[1, 1, 28, 28]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_compiled_program_takes_its_first_run_to_compile(written: Write) -> None:
    ((path, _),) = written("torch").files
    eager, compiled = benchmark([path], runtimes=["torch", "torch-compile"], seconds=0.3)
    assert compiled.runtime.endswith("torch.compile")
    assert compiled.first_ms > 10 * eager.first_ms
    assert compiled.ratio is not None


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_library_compiled_for_one_image_refuses_two_and_wants_its_shape(written: Write) -> None:
    ((path, _),) = written("tvm").files
    with pytest.raises(EngineError, match="give it as --shape"):
        benchmark([path], seconds=0.1)
    with pytest.raises(EngineError, match="The runtime failed"):
        benchmark([path], batch=2, shape=(1, 28, 28), seconds=0.1)
