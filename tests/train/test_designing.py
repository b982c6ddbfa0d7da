"""A student is designed before it is trained: its size is known at once, and its teacher makes it better."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from workbench.cli import main
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.errors import WorkbenchError
from workbench.models.designs import Design, save_model
from workbench.models.load import load_model
from workbench.models.zoo import ARCHITECTURES
from workbench.models.zoo.scaling import SCALED
from workbench.train.jobs.process import Within
from workbench.train.teaching.designing import Distillation, designed, figures


@pytest.fixture(scope="module")
def fashion() -> Dataset:
    """Fashion-MNIST with few images."""
    data = load_dataset("fashion_mnist")
    counts = {"train": 600, "validation": 200, "test": 200, "calibration": 60}
    return replace(data, splits={name: split.take(torch.arange(counts[name])) for name, split in data.splits.items()})


def test_every_zoo_architecture_can_be_scaled_and_at_one_is_itself() -> None:
    assert SCALED.keys() == ARCHITECTURES.keys()
    for name, build in ARCHITECTURES.items():
        plain, scaled = build().state_dict(), Design(name).build((1, 28, 28)).state_dict()
        assert {key: value.shape for key, value in scaled.items()} == {key: value.shape for key, value in plain.items()}


@pytest.mark.parametrize("name", sorted(SCALED))
def test_narrower_and_shallower_students_run_and_need_less(name: str, fashion: Dataset) -> None:
    whole, narrow = (figures(designed(Design(name, width=width), fashion), fashion, timed=False) for width in (1, 0.4))
    assert narrow.parameters < 0.7 * whole.parameters
    assert narrow.macs < whole.macs
    shallow = figures(designed(Design(name, depth=0.4), fashion), fashion, timed=False)
    assert (shallow.parameters < whole.parameters) == SCALED[name][1]
    assert narrow.bytes >= 4 * narrow.parameters


def test_a_student_that_overshoots_its_teacher_is_held_by_short_gradients(fashion: Dataset) -> None:
    """The divergence's gradient grows with the distance of the logits, and LeNet-5 has no BatchNorm to bound them."""
    teacher, settings = load_model("lenet5"), {"epochs": 2, "batch": 32, "augment": "none"}

    def taught(**more: object) -> float:
        student = designed(Design("lenet5", width=0.2), fashion)
        job = Distillation(student, teacher, fashion, settings | more, place=Within()).job
        return job.result().after.value

    with pytest.raises(WorkbenchError, match=r"at step \d+: .* shorten gradients that explode: gradient_clip = 5\."):
        taught(gradient_clip=None)
    assert taught() > 0.5


def test_a_student_is_taught_and_its_file_opens_by_itself(fashion: Dataset, tmp_path: Path) -> None:
    student = designed(Design("lenet300", width=0.2), fashion)
    teacher = load_model("lenet300")
    distilling = Distillation(student, teacher, fashion, {"epochs": 4, "augment": "none"}, place=Within())
    assert distilling.recipe.to_data()[0]["distill"]["teacher"] == "lenet300"
    model = distilling.result()
    assert distilling.job.result().after.value > 0.5
    save_model(model, tmp_path / "student.safetensors")
    opened = load_model(tmp_path / "student.safetensors")
    images = torch.randn(3, 1, 28, 28)
    assert torch.equal(opened.module(images), model.module(images))
    assert opened.card["teacher"] == "lenet300"
    again = Distillation(
        designed(Design("lenet300", width=0.1), fashion), opened, fashion, {"epochs": 1}, place=Within()
    )
    assert again.recipe.to_data()[0]["distill"]["teacher"].endswith(".safetensors"), "a student can teach"
    assert again.job.result().after.n == 200


def test_what_can_not_be_designed_is_said(fashion: Dataset, small_data: Dataset) -> None:
    with pytest.raises(WorkbenchError, match=r"width is from 0.05 to 4 times the architecture's, not 0"):
        Design("resnet20", width=0)
    with pytest.raises(WorkbenchError, match="cannot be made narrower or shallower"):
        Design("timm:resnet18", width=0.5)
    with pytest.raises(WorkbenchError, match="lenet5 does not take the images of patches"):
        designed(Design("lenet5", width=0.5), small_data)
    teacher = load_model(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10)).eval())
    with pytest.raises(WorkbenchError, match="nothing says how it is built: export it to ONNX"):
        Distillation(designed(Design("lenet5"), fashion), teacher, fashion)


def test_the_command_tells_what_a_student_would_need(capsys: pytest.CaptureFixture[str]) -> None:
    verb = ["train", "--model", "lenet5", "--data", "fashion_mnist", "--set", "epochs=0", "--json"]
    assert main([*verb, "--design", "lenet5,width=0.5"]) == 0
    needs = json.loads(capsys.readouterr().out)
    assert needs["student"]["parameters"] < 0.3 * needs["teacher"]["parameters"]
    assert 0 < needs["student"]["latency"]["ms"] < needs["teacher"]["latency"]["ms"]
    assert main([*verb, "--design", "lenet5,wide=2"]) == 2
    assert "is no design: write it as" in capsys.readouterr().err
