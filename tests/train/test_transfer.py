"""A trained model is taken over to a person's own folder of images, kept in a file, and compressed from there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from workbench.cli import main
from workbench.data.dataset import Dataset
from workbench.data.fitting import load_fitting
from workbench.errors import WorkbenchError
from workbench.models.designs import Design, made, save_model
from workbench.models.heads import last_layer, with_classes
from workbench.models.load import load_model
from workbench.models.zoo import ARCHITECTURES
from workbench.session import Session
from workbench.train.jobs.process import Within
from workbench.train.transfer import transfer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of coloured images, 40×32: bright at the top, in the middle, at the bottom."""
    base = tmp_path_factory.mktemp("shapes")
    chance = torch.Generator().manual_seed(0)
    for place, name in enumerate(("bottom", "middle", "top")):
        (base / name).mkdir()
        for number in range(60):
            pixels = torch.randint(0, 90, (40, 32, 3), generator=chance)
            pixels[26 - 12 * place : 38 - 12 * place] += 150
            Image.fromarray(pixels.to(torch.uint8).numpy()).save(base / name / f"{number}.png")
    return base


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_every_zoo_model_takes_a_new_last_layer_and_leaves_the_old_model_alone(name: str) -> None:
    module = ARCHITECTURES[name]().eval()
    head = last_layer(module, (1, 28, 28))
    assert head is not None
    model = replace(load_model(module), input_shape=(1, 28, 28))
    other = with_classes(model, 4)
    assert other.module(torch.zeros(2, 1, 28, 28)).shape == (2, 4)
    assert model.module(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    theirs, ours = model.module.state_dict(), other.module.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if not key.startswith(f"{head}."))


def test_a_model_without_such_a_layer_says_so() -> None:
    model = load_model(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2), nn.Softmax(0)).eval(), input_shape=(4,))
    assert with_classes(model, 5).module(torch.zeros(1, 4)).shape == (1, 5)

    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x).view(-1, 3, 2).sum(2)

    with pytest.raises(WorkbenchError, match="has no last layer that could be replaced"):
        with_classes(load_model(Sums().eval(), input_shape=(4,)), 5)


def test_transfer_learns_the_folder_and_its_file_opens_by_itself(folder: Path, tmp_path: Path) -> None:
    origin = load_model("lenet5")
    data = load_fitting(folder, origin.input_shape)
    assert data.image_shape == (1, 28, 28)
    training = transfer(origin, data, {"epochs": 3, "batch": 16, "augment": "none"}, place=Within())
    model = training.result()
    assert training.job.result().after.value > 0.9
    assert model.card["transferred_from"] == "lenet5"
    save_model(model, tmp_path / "shapes.safetensors")
    opened = load_model(tmp_path / "shapes.safetensors")
    assert opened.normalization == origin.normalization
    assert opened.classes == model.classes == data.classes
    images = torch.randn(3, 1, 28, 28)
    assert torch.equal(opened.module(images), model.module(images))
    with Session(opened, data, history=":memory:") as session:
        snapshot = session.measure("- quantize: {bits: 8}")
        assert snapshot.accuracy is not None
        assert snapshot.accuracy.value > 0.85


@pytest.mark.slow
def test_the_command_writes_a_model_that_other_verbs_take(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.safetensors"
    verb = ["train", "--transfer", "--model", "lenet300", "--data", str(folder), "--set", "epochs=2",
            "--set", "batch=16", "--out", str(out), "--json"]  # fmt: skip
    assert main(verb) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["classes"] == ["bottom", "middle", "top"]
    assert report["accuracy"]["split"] == "test"
    assert main(["evaluate", "--model", str(out), "--data", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"]["value"] == report["accuracy"]["value"]


def test_the_command_refuses_what_comes_after_a_transfer(capsys: pytest.CaptureFixture[str]) -> None:
    verb = ["train", "--transfer", "--model", "lenet300", "--data", "fashion_mnist"]
    assert main([*verb, "--out", "x.wbz"]) == 2
    assert "written as .safetensors" in capsys.readouterr().err
    assert main([*verb, "--method", "finetune"]) == 2
    assert "comes before any compression: leave out --method" in capsys.readouterr().err


def test_images_of_another_size_are_refused_in_a_sentence(small_data: Dataset) -> None:
    with pytest.raises(WorkbenchError, match=r"lenet5 takes images of \(1, 28, 28\) \(channels, height, width\)"):
        transfer(load_model("lenet5"), small_data)


def test_a_model_of_unknown_architecture_is_still_made_but_its_file_needs_one(tmp_path: Path) -> None:
    model = made(load_model(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval(), input_shape=(1, 2, 2)), None)
    save_model(model, tmp_path / "own.safetensors")
    with pytest.raises(WorkbenchError, match="holds weights and no architecture"):
        load_model(tmp_path / "own.safetensors")
    opened = load_model(tmp_path / "own.safetensors", architecture=nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    assert torch.equal(opened.module[1].weight, model.module[1].weight)  # type: ignore[index,union-attr,arg-type]
    with pytest.raises(WorkbenchError, match="no architecture 'nothing'"):
        Design("nothing").build((1, 28, 28))
