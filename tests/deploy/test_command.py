"""``workbench export`` and ``workbench formats``, as a person or a program calls them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from workbench.cli import main
from workbench.data.load import load_dataset
from workbench.deploy.export import export
from workbench.deploy.formats import FORMATS
from workbench.models.load import load_model
from workbench.recipe import Recipe


def test_export_prints_the_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("- quantize: {bits: 8, activations: {bits: 8}}")
    arguments = [
        "--model",
        "lenet300",
        "--format",
        "onnx-int8",
        "--out",
        str(tmp_path / "new"),
        "--recipe",
        str(recipe),
    ]
    assert main(["export", *arguments, "--split", "validation", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (file,) = report["files"]
    assert Path(file["path"]).stat().st_size == file["bytes"] == report["bytes"]
    assert report["accuracy"].keys() == {"value", "low", "high", "n", "kind", "split"}
    assert (report["accuracy"]["n"], report["accuracy"]["split"]) == (5000, "validation")
    assert abs(report["accuracy"]["value"] - report["simulated"]["value"]) <= 0.002
    assert report["runtime"].startswith("onnxruntime ")
    assert report["ms"] > 0 < report["load_ms"]
    assert ("QGemm", "int8") in {(row["op"], row["dtype"]) for row in report["kernels"]}


def test_bad_input_is_told_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--model", "lenet5", "--format", "onnx9", "--out", str(tmp_path)]) == 2
    assert "There is no format 'onnx9'" in capsys.readouterr().err


def test_formats_lists_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["formats", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in entries] == list(FORMATS)
    assert all(entry["summary"] and (entry["installed"] or entry["install"]) for entry in entries)
    assert main(["formats"]) == 0
    assert capsys.readouterr().out.count("\n") == len(FORMATS)


def test_a_packed_file_of_a_model_outside_the_zoo_is_judged(tmp_path: Path) -> None:
    model = load_model(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), input_shape=(1, 28, 28))
    data = load_dataset("fashion_mnist")
    data = replace(data, splits={key: split.take(split.drawn(100)) for key, split in data.splits.items()})
    found = export(model, data, Recipe(), "wbz", tmp_path)
    assert found.agreement is not None
    assert (found.agreement.value, found.kernels) == (1, ())
    assert export(load_model("lenet300"), data, Recipe(), "wbz", tmp_path).kernels
