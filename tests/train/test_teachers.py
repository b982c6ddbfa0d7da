"""Anyone may teach who tells the same classes apart; what they say can be kept, and is the same then."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from workbench.compression import compress, context_for, draft_for
from workbench.data.dataset import Dataset, Normalization, Split
from workbench.errors import WorkbenchError
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe, RecipeError
from workbench.reopening import load_compressed
from workbench.subject import Subject
from workbench.train.images.passes import TrainingImages
from workbench.train.jobs.job import Trained, train
from workbench.train.jobs.process import Within
from workbench.train.teaching.cached_answers import answers_to
from workbench.train.teaching.teachers import Renormalized, load_teacher, teacher_of

SETTINGS = "epochs: 2, batch: 16, learning_rate: 0.05, images: 240"


def taught(
    model: Model, data: Dataset, more: str, before: str = "- prune: {ratio: 0.5}\n"
) -> tuple[Trained, dict[str, Tensor]]:
    step = f"distill: {{{SETTINGS}, {more}}}"
    if "augment" not in step:
        step = step.replace("{", "{augment: none, ")
    recipe = Recipe.parse(f"{before}- {step}")
    trained = train(model, data, recipe, place=Within()).result()
    return trained, dict(compress(model, recipe, data).tensors)


def exported(module: nn.Module, path: Path, shape: tuple[int, ...] = (1, 8, 8)) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = {"x": {0: "n"}}
        torch.onnx.export(
            module.eval(), (torch.zeros(2, *shape),), path, input_names=["x"], dynamic_axes=axes, dynamo=False
        )
    return path


class Counting(nn.Module):
    """Tells how many images it was shown."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.seen = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        answers: Tensor = self.inner(x)
        return answers


@pytest.mark.parametrize(("how", "views"), [("loss: kl", 1), ("loss: mse", 1), ("augment: flip", 2)])
def test_kept_answers_teach_the_same_as_those_given_in_each_step(
    how: str, views: int, small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    teachers: list[Counting] = []

    def counting(*given: object) -> nn.Module:
        teachers.append(Counting(teacher_of(*given)))  # type: ignore[arg-type]
        return teachers[-1]

    monkeypatch.setattr("workbench.train.jobs.job.teacher_of", counting)
    _, online = taught(small_model, small_data, how)
    _, cached = taught(small_model, small_data, f"{how}, answers: cached")
    for name, tensor in online.items():
        torch.testing.assert_close(cached[name], tensor, rtol=1e-4, atol=1e-5)
    tried = 2  # images that show in which memory order it runs
    assert [teacher.seen for teacher in teachers] == [2 * 240, views * 240 + tried]
    _, _ = taught(small_model, small_data, f"{how}, answers: cached, weight: 0.5")
    assert teachers[-1].seen == 0, "another recipe finds the answers of the same teacher"


def test_teachers_that_differ_in_their_inputs_grids_alone_answer_for_themselves(
    small_model: Model, small_data: Dataset, tmp_path: Path
) -> None:
    train_split = small_data["train"]
    images = TrainingImages(train_split.images[:32], train_split.labels[:32], small_data.normalization, 16, "none", 0)
    for bits in (8, 4):
        recipe = Recipe.parse(f"- quantize: {{bits: 8, activations: {{bits: {bits}}}}}")
        subject = Subject.of(small_model, small_data.image_shape)
        teacher = draft_for(subject, recipe, context_for(small_model, small_data)).build()
        with torch.no_grad():
            wanted = teacher(images.normalize(images.images))
        torch.testing.assert_close(answers_to(teacher, images, tmp_path), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("mix: mixup", "kept only where images stay what they are, or are mirrored"),
        ("augment: crop_flip", "set augment to none or flip"),
        ("augment: none, erase: 0.2", "erase and randaugment to 0"),
        ("augment: flip, {}: hint", "only answers can be kept, and hint compares features"),
    ],
)
def test_a_recipe_keeps_no_answers_that_will_be_others(settings: str, said: str) -> None:
    for technique, loss in (("distill", "loss"), ("regularize", "teacher")):
        by = settings.format(loss) if "{}" in settings else settings + ("" if loss == "loss" else ", teacher: kl")
        with pytest.raises(RecipeError, match=said):
            Recipe.parse(f"- {technique}: {{answers: cached, {by}}}")
    Recipe.parse("- regularize: {answers: cached, augment: crop_flip}")  # nobody teaches


def test_answers_to_images_that_chance_changes_are_not_kept(tmp_path: Path) -> None:
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    source = TrainingImages(images, torch.zeros(4, dtype=torch.long), Normalization((0.3,), (0.2,)), 2, "crop", 0)
    with pytest.raises(WorkbenchError, match="set augment to none or flip"):
        answers_to(nn.Flatten(), source, tmp_path)


def test_another_model_teaches_from_its_file_and_a_changed_file_is_another_teacher(
    small_model: Model, small_data: Dataset, tmp_path: Path
) -> None:
    torch.manual_seed(4)
    large = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 3))
    file = exported(large, tmp_path / "large.onnx")
    _, first = taught(small_model, small_data, f"weight: 1, teacher: {file}")
    _, dense = taught(small_model, small_data, "weight: 1")
    assert any(not torch.equal(first[name], dense[name]) for name in first)
    exported(large.requires_grad_(False).apply(_stronger), file)
    _, second = taught(small_model, small_data, f"weight: 1, teacher: {file}")
    assert any(not torch.equal(first[name], second[name]) for name in first)


def _stronger(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        module.weight.mul_(3)


def test_another_model_teaches_while_weights_are_pruned(
    small_model: Model, small_data: Dataset, tmp_path: Path
) -> None:
    large = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).requires_grad_(False)
    file = exported(large, tmp_path / "large.onnx")
    step = f"- prune_gradually: {{{SETTINGS}, augment: none, teacher: kl, weight: 1, ratio: 0.5"
    learned = []
    for more in ("", f", taught_by: {file}", f", taught_by: {file}, answers: cached"):
        recipe = Recipe.parse(f"{step}{more}}}")
        train(small_model, small_data, recipe, place=Within()).result()
        learned.append(compress(small_model, recipe, small_data).tensors)
    dense, online, cached = learned
    assert any(not torch.equal(dense[name], online[name]) for name in dense)
    for name, tensor in online.items():
        torch.testing.assert_close(cached[name], tensor, rtol=1e-3, atol=1e-4)


def test_features_of_another_architecture_are_matched_by_their_size(
    small_model: Model, small_data: Dataset, tmp_path: Path
) -> None:
    other = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(80, 3))
    file = exported(other, tmp_path / "other.onnx")
    for loss in ("hint", "attention", "similarity"):
        trained, _ = taught(small_model, small_data, f"loss: {loss}, teacher: {file}")
        assert trained.after.value > trained.before.value


def test_a_teacher_of_other_classes_or_other_images_is_refused_in_a_sentence(
    small_model: Model, small_data: Dataset, tmp_path: Path
) -> None:
    for shape, classes, sentence in (
        ((1, 8, 8), 7, "tells 7 classes apart, and patches has 3: take a teacher of these classes"),
        ((3, 8, 8), 3, r"does not take the images of patches, \(1, 8, 8\)"),
    ):
        module = nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * 64, classes))
        file = exported(module, tmp_path / f"{classes}.onnx", shape)
        with pytest.raises(WorkbenchError, match=sentence):
            taught(small_model, small_data, f"teacher: {file}")
    with pytest.raises(WorkbenchError, match="There is no model 'nobody'"):
        taught(small_model, small_data, "teacher: nobody")


def test_a_teacher_sees_images_normalised_as_it_was_trained() -> None:
    own, seen = Normalization((0.1, 0.5, 0.2), (0.3, 0.2, 0.7)), Normalization((0.4, 0.3, 0.6), (0.2, 0.9, 0.5))
    images = torch.rand(2, 3, 4, 4)
    found = Renormalized(nn.Identity(), seen, own)(seen(images))
    torch.testing.assert_close(found, own(images))


def test_the_default_teacher_is_the_uncompressed_model(small_model: Model, small_data: Dataset) -> None:
    subject = Subject.of(small_model, small_data.image_shape)
    draft = draft_for(subject, Recipe.parse("- prune: {ratio: 0.5}"), context_for(small_model, small_data))
    images = torch.randn(2, 1, 8, 8)
    for name, module in (("uncompressed", small_model.module), ("itself", draft.build())):
        settings = Recipe.parse(f"- distill: {{teacher: {name}}}").steps[0].settings
        found = teacher_of(settings, draft, small_data, small_data.normalization)  # type: ignore[arg-type]
        assert torch.equal(found(images), module(images))


def test_another_teacher_in_the_same_file_makes_another_setting(tmp_path: Path) -> None:
    path = tmp_path / "teacher.safetensors"
    text = f"- distill: {{teacher: {path}}}"
    path.write_bytes(b"one")
    one, same = Recipe.parse(text), Recipe.parse(text)
    assert one.hash == same.hash
    path.write_bytes(b"other")
    assert Recipe.parse(text).hash != one.hash, "its figures would be recalled"


def test_a_packed_zoo_model_teaches_behind_its_own_normalisation(tmp_path: Path) -> None:
    dense = load_model("lenet300")
    file = tmp_path / "small.wbz"
    compress(dense, "- quantize: {bits: 8}", image_shape=(1, 28, 28)).save(file)
    images = torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    split = Split("test", images, torch.zeros(4, dtype=torch.long))
    seen = Normalization((0.0,), (1.0,))
    data = Dataset("other", {"test": split}, tuple("abcdefghij"), seen)
    assert dense.normalization is not None
    with torch.no_grad():
        wanted = load_compressed(file).module(dense.normalization(images))
        taught = load_teacher(str(file), data, seen)(seen(images))
    torch.testing.assert_close(taught, wanted)
