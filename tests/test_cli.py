"""The command's JSON is the contract; bad input is one sentence and status 2."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch import Tensor

from workbench.cli import main
from workbench.errors import WorkbenchError

KEYS = {"model", "dataset", "recipe", "recipe_hash", "baseline", "accuracy", "size", "latency", "layers"}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_evaluate_prints_the_contract(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("- prune: {ratio: 0.5}\n- quantize: {bits: 4}\n")
    saved = tmp_path / "small.wbz"
    status, out, _ = run(
        capsys, "evaluate", "--model", "lenet300", "--data", "fashion_mnist", "--recipe", str(recipe),
        "--save", str(saved), "--json",
    )  # fmt: skip
    report = json.loads(out)
    assert status == 0
    assert set(report) >= KEYS
    assert set(report["accuracy"]) == {"value", "low", "high", "n", "kind", "split"}
    assert report["accuracy"]["kind"] == "exact"
    assert report["accuracy"]["split"] == "test"
    assert set(report["size"]) >= {"bytes", "dense_fp32_bytes", "ratio", "kind"}
    assert report["size"]["bytes"] == saved.stat().st_size
    assert set(report["baseline"]) == {"accuracy", "size", "latency"}
    assert set(report["layers"][0]) == {"name", "type", "shape", "params", "macs", "sparsity", "bits", "bytes"}
    assert report["latency"] is None or set(report["latency"]) >= {
        "device", "runtime", "batch", "ms", "low", "high", "kind",
    }  # fmt: skip


def test_evaluate_reads_a_recipe_from_standard_input() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workbench.cli", "evaluate", "--model", "lenet300", "--data", "fashion_mnist",
         "--recipe", "-", "--json"],
        input="- quantize: {bits: 8}", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["recipe"] == [{"quantize": {"bits": 8}}]


@pytest.mark.parametrize("verb", ["models", "datasets", "techniques", "devices"])
def test_listings(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    status, out, _ = run(capsys, verb, "--json")
    entries = json.loads(out)
    assert status == 0
    assert all(entry["name"] for entry in entries)
    status, out, _ = run(capsys, verb)
    assert status == 0
    assert len(out.splitlines()) == len(entries)


def test_technique_entries_follow_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "techniques", "--json")
    for entry in json.loads(out):
        assert set(entry) >= {"name", "summary", "cost_class", "source", "settings", "examples"}
        assert entry["settings"]["type"] == "object"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "resnet2", "--data", "fashion_mnist"], "resnet20"),
        (["--model", "lenet300", "--data", "fashion"], "fashion_mnist"),
        (["--model", "lenet300", "--data", "fashion_mnist", "--recipe", "missing.yaml"], "cannot be read"),
        (["--model", "lenet300", "--data", "fashion_mnist", "--split", "dev"], "no split 'dev'"),
        (["--model", "lenet300", "--data", "fashion_mnist", "--device", "toaster"], "toaster"),
    ],
)
def test_bad_input_is_one_sentence_and_status_two(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    status, out, err = run(capsys, "evaluate", *arguments)
    assert status == 2
    assert out == ""
    assert words in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["- prune: {ratio: 1.2}", "- shrink: {}", "- prune: {layers: [head]}", "- prune: {ratio: ["]
)
def test_bad_recipes_are_status_two(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    status, _, err = run(capsys, "evaluate", "--model", "lenet300", "--data", "fashion_mnist", "--recipe", str(path))
    assert status == 2
    assert len(err.strip().splitlines()) == 1


def test_saving_where_it_cannot_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = run(
        capsys, "evaluate", "--model", "lenet300", "--data", "fashion_mnist", "--save", str(tmp_path / "no" / "x.wbz")
    )
    assert status == 2
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize("verb", [("evaluate", "--save"), ("train", "--method", "finetune", "--out")])
def test_a_packed_model_does_not_take_the_place_of_a_model(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, verb: tuple[str, ...]
) -> None:
    own = tmp_path / "mine.onnx"
    own.write_bytes(b"of great worth")
    status, _, err = run(capsys, *verb, str(own), "--model", "lenet300", "--data", "fashion_mnist")
    assert (status, len(err.splitlines())) == (2, 1)
    assert "call it 'mine.wbz'" in err
    assert own.read_bytes() == b"of great worth"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="takes a file that is full")
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_an_answer_that_cannot_be_written_is_told_in_a_sentence(more: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "workbench.cli", "datasets", *more]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "workbench: The answer could not be written: No space left on device.\n"


@pytest.mark.parametrize("more", [("--method", "finetune"), ("--transfer",), ("--climb", "1")])
def test_training_is_not_begun_where_its_file_cannot_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, more: tuple[str, ...]
) -> None:
    (tmp_path / "taken").write_text("")
    out = str(tmp_path / "taken" / "x.safetensors")
    status, _, err = run(capsys, "train", "--model", "lenet300", "--data", "fashion_mnist", "--out", out, *more)
    assert status == 2
    assert err.startswith(f"workbench: There can be no file '{out}'")
    status, _, err = run(capsys, "train", "--model", "nosuch", "--data", "fashion_mnist", "--out", str(tmp_path), *more)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "is a folder: let --out name a file in it" in err


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--set", "epochs=2"], "--set epochs=2 belongs to no method"),
        (["--set", "epochs=2", "--climb", "1"], "--set epochs=2 belongs to no method"),
        (["--method", "finetune", "--set", "x=["], "The value of 'x=[' cannot be read"),
        (["--method", "finetune", "--set", "x=@a"], "The value of 'x=@a' cannot be read"),
        (["--transfer", "--set", "x=%5"], "The value of 'x=%5' cannot be read"),
        (["--method", "finetune", "--set", "x=2026-13-45"], "The value of 'x=2026-13-45' cannot be read"),
        (["--design", "lenet300,width=[1"], "The value of 'width=[1' cannot be read"),
    ],
)
def test_settings_that_cannot_be_taken_are_one_sentence(
    capsys: pytest.CaptureFixture[str], more: list[str], words: str
) -> None:
    status, _, err = run(capsys, "train", "--model", "lenet300", "--data", "fashion_mnist", *more)
    assert (status, len(err.splitlines())) == (2, 1)
    assert words in err


@pytest.mark.parametrize("more", [["--mode", "others"], ["--metrics"]])
def test_what_pairs_know_nothing_of_is_refused(capsys: pytest.CaptureFixture[str], more: list[str]) -> None:
    given = ["--model", "lenet300", "--data", "fashion_mnist", "--values", "0.5", "--pairs"]
    status, _, err = run(capsys, "sensitivity", *given, *more)
    assert (status, len(err.splitlines())) == (2, 1)
    assert f"{' '.join(more)} does not go with --pairs" in err


def test_sensitivity_prints_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(
        capsys, "sensitivity", "--model", "lenet300", "--data", "fashion_mnist", "--technique", "quantize",
        "--setting", "bits", "--values", "4,2", "--layers", "fc?", "--tolerance", "2", "--json",
    )  # fmt: skip
    report = json.loads(out)
    assert status == 0
    assert [layer["name"] for layer in report["layers"]] == ["fc1", "fc2", "fc3"]
    for layer in report["layers"]:
        assert layer["setting"] == [4, 2]
        assert [set(cell) for cell in layer["accuracy"]] == [{"value", "low", "high", "n", "kind", "split"}] * 2


def test_sensitivity_compares_metrics_and_measures_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    common = ("sensitivity", "--model", "lenet300", "--data", "fashion_mnist", "--technique", "quantize")
    status, out, _ = run(capsys, *common, "--values", "2", "--tolerance", "2", "--metrics", "--json")
    assert status == 0
    metrics = {each["name"]: each for each in json.loads(out)["metrics"]}
    assert metrics["drop"]["spearman"] == 1
    assert metrics["hawq"]["seconds"] > 0
    status, out, _ = run(capsys, *common, "--values", "2", "--layers", "fc1,fc2", "--tolerance", "2", "--pairs")
    assert status == 0
    assert "beyond the sum of both alone" in out
    status, _, problem = run(capsys, *common, "--values", "4,2", "--pairs")
    assert status == 2
    assert "Pairs are measured at one value, and 2 are given." in problem


def test_sensitivity_without_its_scheduler_says_so_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, problem = run(
        capsys, "sensitivity", "--model", "lenet300", "--data", "fashion_mnist", "--scheduler", "127.0.0.1:9",
    )  # fmt: skip
    assert status == 2
    assert problem.startswith("workbench: No scheduler answers at tcp://127.0.0.1:9")
    assert problem.count("\n") == 1


def test_sensitivity_refuses_a_bad_value_with_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(
        capsys, "sensitivity", "--model", "lenet300", "--data", "fashion_mnist", "--technique", "prune",
        "--setting", "ratio", "--values", "0.5,1.2", "--json",
    )  # fmt: skip
    assert status == 2
    assert out == ""
    assert "ratio is 1.2" in err
    assert err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="C's library has another name there")
def test_what_libraries_print_by_themselves_is_not_on_standard_output() -> None:
    code = (
        "import ctypes; from workbench.cli.common import answer_alone\n"
        "with answer_alone():\n    ctypes.CDLL(None).printf(b'noise\\n')\n"
        "print('answer')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("answer\n", "noise\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Larger images in colour, in folders named as the zoo's classes."""
    from PIL import Image

    from workbench.data.catalog import FASHION_CLASSES

    for name in FASHION_CLASSES:
        (tmp_path / "data" / name).mkdir(parents=True)
        for shade in range(5):
            Image.new("RGB", (40, 30), (shade, 50, len(name) * 9)).save(tmp_path / "data" / name / f"{shade}.png")
    return tmp_path / "data"


@pytest.mark.parametrize(
    "verb",
    [
        ["export", "--format", "wbz", "--out", "out"], ["split", "--images", "4"], ["compare", "r.yaml"],
        ["sensitivity", "--values", "0.5"], ["profile"],
        pytest.param(["allocate", "--max-bytes", "300000"], marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_a_folder_of_larger_colour_images_is_taken_as_evaluate_takes_it(
    verb: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("r.yaml").write_text("- prune: {ratio: 0.5}")
    assert main([*verb, "--model", "lenet300", "--data", "data", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "data"


def test_a_report_takes_such_a_folder_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("r.yaml").write_text("- prune: {ratio: 0.5}")
    assert main(["report", "--model", "lenet300", "--data", "data", "--recipe", "r.yaml", "--out", "card.md"]) == 0
    assert "card.md" in capsys.readouterr().out


def test_a_pipeline_takes_such_a_folder_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reached(module: object, images: Tensor, *rest: object, **others: object) -> None:
        raise WorkbenchError(f"Images of {tuple(images.shape[1:])} came.")  # rather than start processes

    monkeypatch.setattr("workbench.deploy.pipeline.compare.compare_pipeline", reached)
    assert main(["pipeline", "--model", "lenet300", "--data", str(folder)]) == 2
    assert "Images of (1, 28, 28) came." in capsys.readouterr().err
