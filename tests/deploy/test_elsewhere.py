"""Files for machines that this one is not: written, checked, and said not to have been run."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType, SimpleNamespace

import onnx
import pytest
import torch
from torch import Tensor, nn

from tests.deploy.conftest import Write
from workbench.data.dataset import Dataset
from workbench.deploy.export import export
from workbench.deploy.format import FormatError
from workbench.deploy.formats import FORMATS
from workbench.deploy.tensorrt import SUPPORTED
from workbench.deploy.tvm_formats import count_from_the_front
from workbench.models.load import load_model
from workbench.recipe import Recipe


class Hard(nn.Module):
    """A model with an operator that TensorRT has not."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(784, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = torch.fmod(self.fc(x.flatten(1)), 3.0)
        return logits


def test_the_file_for_tensorrt_has_only_its_operators_and_a_command_that_parses(written: Write) -> None:
    found = written("tensorrt", recipe="- prune: {granularity: filter, ratio: 0.3}")
    (path, _), (script, _) = found.files
    assert {node.op_type for node in onnx.load(path).graph.node} <= SUPPORTED
    assert found.accuracy is None
    assert any("Not run here" in remark and "trtexec --onnx=" in remark for remark in found.remarks)
    subprocess.run(["sh", "-n", script], check=True)
    assert f"--onnx={path.name} " in script.read_text()


def test_two_of_four_zeros_ask_for_sparse_cores_and_others_do_not(written: Write) -> None:
    sparse = written("tensorrt", "lenet300", "- prune: {granularity: 'n:m', n: 2, m: 4}")
    assert any("--sparsity=enable" in remark for remark in sparse.remarks)
    assert not any("--sparsity" in remark for remark in written("tensorrt", "lenet300").remarks)


def test_an_operator_that_tensorrt_lacks_is_named_with_the_way_round(little_data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"TensorRT has no operator Mod, .* at '.+': .*export it as onnx"):
        export(load_model(Hard().eval()), little_data, Recipe(), "tensorrt", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_object_files_for_arm_are_arms(written: Write, tmp_path: Path) -> None:
    ((path, _),) = written("tvm-arm").files
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    machines = {int.from_bytes(file.read_bytes()[18:20], "little") for file in tmp_path.rglob("*.o")}
    assert machines == {183}, "the ELF header's number of AArch64"


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if not entry.runs_here])
def test_opening_them_here_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(FormatError, match="not run"):
        FORMATS[name].open(Path("model"))


def test_a_program_for_tvm_counts_from_the_front() -> None:
    class Last(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, -1] + x[:, 0]

    image = torch.arange(12.0).reshape(2, 3, 2)
    program = torch.export.export(Last(), (image,))
    count_from_the_front(program)
    places = [node.args[2] for node in program.graph.nodes if node.target is torch.ops.aten.select.int]
    assert sorted(places) == [0, 2]
    assert torch.equal(program.module()(image), Last()(image))


def test_tvm_and_executorch_are_told_how_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(Exception):
        """Enough was seen."""

    def stop(*numbers: int) -> None:
        raise Told(numbers)

    tvm, portable = ModuleType("tvm"), ModuleType("executorch.extension.pybindings")
    tvm.relax = ModuleType("tvm.relax")  # type: ignore[attr-defined]
    tvm.get_global_func = {"runtime.config_threadpool": stop}.get  # type: ignore[attr-defined]
    portable.portable_lib = SimpleNamespace(_unsafe_reset_threadpool=stop)  # type: ignore[attr-defined]
    runtime = ModuleType("executorch.runtime")
    runtime.Runtime = object  # type: ignore[attr-defined]
    for module in (tvm, tvm.relax, portable, runtime, *map(ModuleType, ("executorch", "executorch.extension"))):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with pytest.raises(Told, match=r"\(1, 3\)"):
        FORMATS["tvm"].open(Path("model.tvm.so"), 3)
    with pytest.raises(Told, match=r"\(3,\)"):
        FORMATS["executorch"].open(Path("model.pte"), 3)
