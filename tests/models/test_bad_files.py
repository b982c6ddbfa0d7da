"""Broken, mislabelled and malicious files: one clear sentence each, and nothing of theirs is run."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from workbench.models import ModelError, load_model
from workbench.models.zoo import LeNet5, ResNet20


def refused(source, **given) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(source, **given)
    said = str(caught.value)
    assert said.endswith(".")
    assert "\n" not in said
    return said


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_file(LeNet5().state_dict(), path)
    return path


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("suffix", ["pt", "pth"])
def test_a_pickle_bomb_is_not_executed(tmp_path, suffix, zipped):
    target, path = tmp_path / "exploded", tmp_path / f"bomb.{suffix}"
    torch.save({"weight": torch.zeros(2), "x": Bomb(target)}, path, _use_new_zipfile_serialization=zipped)
    said = refused(path, architecture="lenet5")
    assert not target.exists()
    assert "mkdir" in said
    assert "was not opened" in said


def test_a_bare_pickle_is_not_executed(tmp_path):
    target, path = tmp_path / "exploded", tmp_path / "bomb.pt"
    path.write_bytes(pickle.dumps(Bomb(target)))
    refused(path, architecture="lenet5")
    assert not target.exists()


def test_a_whole_pickled_module_is_refused_with_advice(tmp_path):
    path = tmp_path / "module.pt"
    torch.save(LeNet5(), path)
    said = refused(path, architecture="lenet5")
    assert "holds the Python object workbench.models.zoo.lenet.LeNet5 besides tensors" in said
    assert "save model.state_dict()" in said


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_program_is_refused_with_advice(tmp_path):
    path = tmp_path / "script.pt"
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(path)
    assert "TorchScript program" in refused(path, architecture="lenet5")


def test_a_file_without_a_state_dict(tmp_path):
    for index, content in enumerate([{}, [1, 2], {"epoch": 3}, torch.zeros(3)]):
        path = tmp_path / f"{index}.pt"
        torch.save(content, path)
        assert "holds no state dict" in refused(path, architecture="lenet5")


@pytest.mark.parametrize("header", [b"\xff" * 8, b"\x05" + b"\0" * 7, (1 << 20).to_bytes(8, "little")])
def test_a_safetensors_file_with_a_wrong_header(weights, header):
    weights.write_bytes(header + weights.read_bytes()[8:])
    assert "not a sound safetensors file" in refused(weights, architecture="lenet5")


@pytest.mark.parametrize("kept", [0, 5, 200, 100_000])
def test_a_truncated_safetensors_file(weights, kept):
    weights.write_bytes(weights.read_bytes()[:kept])
    assert "not a sound safetensors file" in refused(weights, architecture="lenet5")


@pytest.mark.parametrize("kept", [0, 3, 1_000, 50_000])
def test_a_truncated_torch_file(tmp_path, kept):
    path = tmp_path / "weights.pt"
    torch.save(LeNet5().state_dict(), path)
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, architecture="lenet5")


def test_mislabelled_weights_say_what_they_are(weights, tmp_path):
    wrong = weights.rename(tmp_path / "weights.pt")
    assert "is a safetensors file by its content: rename it" in refused(wrong, architecture="lenet5")
    torch.save(LeNet5().state_dict(), tmp_path / "other.safetensors")
    said = refused(tmp_path / "other.safetensors", architecture="lenet5")
    assert "is a torch file by its content: rename it" in said


def test_names_that_do_not_match_are_named(tmp_path, weights):
    said = refused(weights, architecture="resnet20")
    assert "missing 'bn1.weight', 'bn1.bias', 'bn1.running_mean' and " in said
    assert "unexpected 'conv1.bias', 'conv2.bias', 'conv2.weight' and " in said
    assert "'conv1.weight' is (20, 1, 5, 5) in the file and (16, 1, 3, 3) in the architecture" in said


def test_shapes_that_do_not_match_are_named(tmp_path):
    path = tmp_path / "colour.pt"
    torch.save(ResNet20(channels=3).state_dict(), path)
    said = refused(path, architecture="resnet20")
    assert "'conv1.weight' is (16, 3, 3, 3) in the file and (16, 1, 3, 3) in the architecture" in said
    assert "missing" not in said


def test_integer_weights_do_not_pass_for_floats(tmp_path):
    path, state = tmp_path / "int.pt", LeNet5().state_dict()
    state["fc1.weight"] = torch.zeros(500, 800, dtype=torch.int8)
    torch.save(state, path)
    assert "'fc1.weight' is int8 in the file" in refused(path, architecture="lenet5")


def test_weights_of_an_unknown_architecture_ask_for_it(tmp_path):
    path = tmp_path / "mine.safetensors"
    save_file({"a.weight": torch.zeros(2, 2)}, path)
    assert "architecture=your_module" in refused(path)


def test_an_unknown_architecture_name(weights):
    assert "There is no architecture 'lenet6'" in refused(weights, architecture="lenet6")


def test_unknown_names_suggest_the_nearest():
    assert "There is no model 'resnet2O': did you mean 'resnet20'?" in refused("resnet2O")
    assert "did you mean" not in refused("bert")


def test_what_is_not_there_not_a_file_or_not_a_model(tmp_path):
    assert "There is no file" in refused(tmp_path / "none.pt")
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    assert "of a kind the workbench does not load" in refused(tmp_path / "notes.txt")
    assert "int is none of them" in refused(3)
    (tmp_path / "small.wbz").write_bytes(b"wbz")
    assert "a packed model, which load_compressed runs" in refused(tmp_path / "small.wbz")


def test_what_is_nearly_a_model_is_told_how_to_become_one(weights):
    for given in (refused(LeNet5), refused(weights, architecture=LeNet5)):
        assert given == "LeNet5 is a class: give a model made of it, such as LeNet5()."
    assert "load it into the module" in refused(LeNet5().state_dict())
    assert "load it into the module" in refused(weights, architecture={})


def test_a_file_that_may_not_be_read(weights, monkeypatch):
    def denied(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "cannot be read: Permission denied" in refused(weights, architecture="lenet5")


@pytest.mark.parametrize(("part", "value"), [
    ("classes", 10**13), ("classes", -1), ("classes", "x"), ("base", ["a"]), ("base", "torchvision:none"),
    ("width", float("nan")), ("width", "x"), ("input_shape", [10**5, 10**5, 10**5]), ("input_shape", [1, 28]),
    ("input_shape", [1, -28, 28]),
])  # fmt: skip
def test_a_forged_design_is_refused(tmp_path, part, value) -> None:
    path = tmp_path / "made.safetensors"
    design = {"base": "lenet5", "classes": None, "width": 1.0, "depth": 1.0}
    said = {"name": "made", "card": {"design": design}, "input_shape": [1, 28, 28], "normalization": None}
    (said if part in said else design)[part] = value
    save_file(LeNet5().state_dict(), path, {"workbench": json.dumps(said)})
    refused(path)
