"""BatchNorm folded in training: the network of plain training, with the weights that will run on their grid."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from workbench.compression import compress, context_for, draft_for
from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques.storage import Codes
from workbench.techniques.trained import FinetuneSettings
from workbench.train.constraints.folding import FoldedNorm
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within
from workbench.train.method import Method, Moment
from workbench.train.student import Student

FOLDED = "- fold_batchnorm: {}\n"


def uneven(model: Model) -> Model:
    """Give the BatchNorm factors of both signs, and statistics that are not those it begins with."""
    chance = torch.Generator().manual_seed(0)
    norm: Any = model.module.norm
    with torch.no_grad():
        norm.weight.uniform_(-1.5, 1.5, generator=chance)
        norm.bias.normal_(generator=chance)
        norm.running_mean.normal_(generator=chance)
        norm.running_var.uniform_(0.2, 2, generator=chance)
    return model


def student_of(model: Model, data: Dataset, text: str, **settings: Any) -> Student:
    draft = draft_for(Subject.of(model, (1, 8, 8)), Recipe.parse(text), context_for(model, data))
    chosen = FinetuneSettings(**settings)
    return Student.of(draft, Method(chosen), dict.fromkeys(draft.layers, chosen))


@pytest.mark.parametrize("name", [pytest.param("resnet20", marks=pytest.mark.slow), "mobilenetv2"])
def test_folding_leaves_what_the_model_computes(name: str) -> None:
    model = wb.load_model(name)
    compressed = wb.compress(model, FOLDED, image_shape=(1, 28, 28))
    images = torch.rand(4, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(compressed.module(images), model.module(images), rtol=1e-3, atol=1e-3)
    norms = [name for name, part in model.module.named_modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        factor = compressed.tensors[f"{norm}.weight"] / (compressed.tensors[f"{norm}.running_var"] + 1e-5).sqrt()
        torch.testing.assert_close(factor, torch.ones_like(factor))


def test_without_rounding_it_is_plain_training(small_model: Model, small_data: Dataset) -> None:
    """Outputs, gradients of weights and gammas, and statistics are those of a BatchNorm that is not folded."""
    model = uneven(small_model)
    plain, folded = (student_of(model, small_data, "[]", batchnorm=how) for how in ("train", "fold"))
    images, labels = small_data["train"].images[:32], small_data["train"].labels[:32]
    found: list[tuple[Tensor, dict[str, Tensor]]] = []
    for student in (plain, folded):
        student.train()
        torch.manual_seed(0)
        logits = student(images)
        nn.functional.cross_entropy(logits, labels).backward()
        gradients = {name: part.values.grad for name, part in student.parts()}  # type: ignore[union-attr]
        found.append((logits, gradients))  # type: ignore[arg-type]
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)
    ours, theirs = dict(folded.body.named_buffers()), dict(plain.body.named_buffers())
    for name, wanted in theirs.items():
        torch.testing.assert_close(ours[name], wanted, rtol=1e-4, atol=1e-5, msg=name)


def test_weights_are_rounded_with_the_factor_of_the_running_statistics(small_model: Model, small_data: Dataset) -> None:
    student = student_of(
        uneven(small_model), small_data, FOLDED + "- quantize: {bits: 3, per: tensor}", batchnorm="fold"
    )
    norm = student.body.get_submodule("norm")
    assert isinstance(norm, FoldedNorm)
    parts: dict[str, Any] = dict(student.parts())
    with torch.no_grad():
        norm.running_var.mul_(4)  # the factor is halved
        parts["norm.weight"].values.mul_(1.6)
        held = parts["conv.weight"]
        wanted = held.values * 0.8 / held.step
        rounded = (wanted + held.codes.zero_point).round().clamp(0, 7) - held.codes.zero_point
        torch.testing.assert_close(held(), rounded * held.step, rtol=1e-3, atol=1e-5)


def test_what_was_trained_folded_is_what_is_stored(small_model: Model, small_data: Dataset) -> None:
    settings = {"epochs": 2, "batch": 16, "augment": "none", "learning_rate": 0.05, "batchnorm": "fold"}
    steps: list[dict[str, Any]] = [{"fold_batchnorm": {}}, {"quantize": {"bits": 3, "per": "tensor"}}]
    recipe = Recipe.parse([*steps, {"finetune": {**settings, "batchnorm_until": 0.5}}])
    after = train(uneven(small_model), small_data, recipe, place=Within()).result().after.value
    compressed = compress(small_model, recipe, small_data)
    assert isinstance(compressed.stored["conv.weight"], Codes)
    assert len(compressed.tensors["conv.weight"].unique()) <= 8
    factor = compressed.tensors["norm.weight"] / (compressed.tensors["norm.running_var"] + 1e-5).sqrt()
    torch.testing.assert_close(factor, torch.ones_like(factor))
    split = small_data["validation"]
    with torch.no_grad():
        right = (compressed.module(split.images).argmax(1) == split.labels).float().mean()
    assert float(right) == pytest.approx(after, abs=0.01)
    assert after > 0.9


def test_statistics_are_kept_from_the_share_that_was_asked_for(small_model: Model, small_data: Dataset) -> None:
    method = Method(FinetuneSettings(batchnorm="fold", batchnorm_until=0.5))
    student = student_of(small_model, small_data, "[]", batchnorm="fold")
    norm: Any = student.body.get_submodule("norm")
    for step, training in ((49, True), (50, False)):
        method.set_mode(student, Moment(step, 100, 10))
        assert norm.training is training
        assert student.body.drop.training


def test_weights_on_a_grid_of_their_own_are_refused_in_a_sentence(small_model: Model, small_data: Dataset) -> None:
    with pytest.raises(WorkbenchError, match="put fold_batchnorm before quantize"):
        student_of(uneven(small_model), small_data, "- quantize: {bits: 4}", batchnorm="fold")
    with pytest.raises(WorkbenchError, match="put fold_batchnorm before quantize and share"):
        compress(uneven(small_model), "- quantize: {bits: 4}\n- fold_batchnorm: {}", small_data)
