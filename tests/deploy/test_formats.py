"""Every format: what is written runs in its own runtime and answers as PyTorch does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.deploy.conftest import Write, read
from workbench.data.dataset import Dataset
from workbench.deploy.export import export
from workbench.deploy.format import FormatError, MissingRuntime
from workbench.deploy.formats import FORMATS, find_format
from workbench.models.load import load_model
from workbench.recipe import Recipe

#: What the files of each format may cost beside the torch simulation of the same recipe: 0.2 points, as one image.
MOST_LOST = 0.0026
#: Those with grids of their own, and OpenVINO's floats in bf16, get other images wrong: of 400 three more or fewer.
ROUNDED, MOST_LOST_BY_ROUNDING = ("executorch-int8", "litert-int8", "openvino", "openvino-int4"), 0.0076
#: Those whose every test is quick; those that are written once in the default run; and those that take longer.
QUICK = ["onnx", "onnx-int8", "onnx-int4", "wbz"]
ONCE = ["onnx-fp16", "onnx-int2", "openvino", "openvino-int8", "openvino-int4", "torch", "tensorrt", "c"]
OTHERS = [name for name in FORMATS if name not in QUICK]
SLOW = [name for name in OTHERS if FORMATS[name].reproducible and FORMATS[name].installed]
EVERY = [pytest.param(name, marks=() if name in (*QUICK, *ONCE) else pytest.mark.slow) for name in FORMATS]
PRUNED_INT8 = (
    "- prune: {granularity: filter, ratio: 0.3}\n- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}"
)


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        *(pytest.param(*entry.values, "[]", marks=entry.marks) for entry in EVERY),
        *(pytest.param(name, PRUNED_INT8, marks=() if name in QUICK else pytest.mark.slow) for name in FORMATS),
    ],
)
def test_a_file_answers_in_its_runtime_as_the_simulation_does(name: str, recipe: str, written: Write) -> None:
    found = written(name, recipe=recipe)
    if not FORMATS[name].runs_here:
        assert found.accuracy is found.agreement is found.ms is None
        assert any("Not run here" in remark for remark in found.remarks)
        return
    assert found.accuracy is not None
    assert found.agreement is not None
    assert found.accuracy.kind == "exact"
    assert (found.accuracy.n, found.accuracy.split) == (400, "test")
    most = MOST_LOST_BY_ROUNDING if name in ROUNDED else MOST_LOST
    assert abs(found.accuracy.value - found.simulated.value) <= most
    assert found.agreement.value >= 0.99


@pytest.mark.parametrize("name", EVERY)
def test_the_bytes_told_are_those_on_disk(name: str, written: Write) -> None:
    found = written(name)
    assert found.files
    assert [size for _, size in found.files] == [len(data) for data in read(found)]
    assert {path.parent for path, _ in found.files} == {found.files[0][0].parent}
    assert {path.name for path in found.files[0][0].parent.iterdir()} == {path.name for path, _ in found.files}


AGAIN = """
import sys
from pathlib import Path

from tests.deploy.conftest import little
from workbench.deploy.formats import FORMATS
from workbench.deploy.writing import prepare, write
from workbench.models.load import load_model
from workbench.recipe import Recipe

for name in sys.argv[3:]:
    recipe, _ = FORMATS[name].complete(Recipe.parse(sys.argv[1]))
    write(FORMATS[name], prepare(load_model("lenet5"), little(), recipe), Path(sys.argv[2]))
"""


@pytest.fixture(
    scope="module", params=[[*QUICK, "c"], pytest.param(SLOW, marks=pytest.mark.slow)], ids=["quick", "slow"]
)
def again(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Return formats, and a folder into which another process wrote them."""
    folder = tmp_path_factory.mktemp("again")
    command = [sys.executable, "-c", AGAIN, PRUNED_INT8, str(folder), *request.param]
    threads = str(torch.get_num_threads())  # sums over images are rounded otherwise by other numbers of threads
    elsewhere = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": threads}
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True, capture_output=True, env=elsewhere)
    return request.param, folder


def test_a_recipe_and_a_model_reproduce_the_file_byte_for_byte(again: tuple[list[str], Path], written: Write) -> None:
    names, folder = again
    for name in names:
        for path, _ in written(name, recipe=PRUNED_INT8).files:
            assert (folder / path.name).read_bytes() == path.read_bytes(), path.name


def test_a_format_whose_bytes_differ_says_why() -> None:
    assert {name for name, entry in FORMATS.items() if entry.varies} == {
        "aot-inductor", "stablehlo", "tvm", "tvm-arm"
    }  # fmt: skip
    assert all(entry.to_json()["reproducible"] == (not entry.to_json()["varies"]) for entry in FORMATS.values())


def test_an_unknown_format_is_answered_with_those_there_are() -> None:
    with pytest.raises(FormatError, match=r"There is no format 'coreml'; there is onnx, .*wbz"):
        find_format("coreml")


def test_a_runtime_that_is_not_installed_is_told_with_the_line_that_installs_it(
    little_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(FORMATS["torch"]), "modules", ("no_such_module",))
    monkeypatch.setattr(type(FORMATS["torch"]), "extra", "torch")
    with pytest.raises(MissingRuntime, match=r"not installed: pip install 'compression-workbench\[torch\]'"):
        export(load_model("lenet5"), little_data, Recipe(), "torch", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_told(little_data: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FormatError, match=r"Nothing can be written into .*file"):
        export(load_model("lenet5"), little_data, Recipe(), "wbz", tmp_path / "file")


def test_what_cannot_be_written_leaves_nothing_behind(
    little_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise FormatError("no")

    monkeypatch.setattr(type(FORMATS["onnx"]), "write", fail)
    with pytest.raises(FormatError, match="no"):
        export(load_model("lenet5"), little_data, Recipe(), "onnx", tmp_path)
    assert not list(tmp_path.iterdir())


def test_zeros_and_tables_that_a_format_cannot_hold_are_said(written: Write) -> None:
    zeros = written("onnx", "lenet300", "- prune: {ratio: 0.8}")
    assert any("80% of the weights are zero" in remark for remark in zeros.remarks)
    table = written("onnx", "lenet300", "- quantize: {bits: 4, format: nf}")
    assert any("table of values" in remark for remark in table.remarks)
    assert not [remark for remark in written("wbz", "lenet300", "- prune: {ratio: 0.8}").remarks if "zero" in remark]
