"""Training wins accuracy back, goes on after a kill to the same numbers, and says what is wrong."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from workbench.compression import compress
from workbench.data.dataset import Dataset, Split
from workbench.encodings.files import write_atomically
from workbench.errors import WorkbenchError
from workbench.models.model import Model
from workbench.recipe import Recipe, RecipeError
from workbench.session import Session
from workbench.techniques.trained import MissingTraining
from workbench.train.images.passes import erased
from workbench.train.jobs.job import TrainingJob, train
from workbench.train.jobs.process import Apart, Within
from workbench.train.jobs.worker import Request
from workbench.train.loop.loop import Stopped, Trainer
from workbench.train.loop.objectives import Answers
from workbench.train.loop.stepping import Stepper
from workbench.train.method import Moment

PRUNED = "- prune: {ratio: 0.5}\n- finetune: {epochs: 4, batch: 16, learning_rate: 0.05, augment: none}"


def test_a_step_that_was_not_trained_says_so(small_model: Model, small_data: Dataset) -> None:
    with pytest.raises(MissingTraining, match="'finetune' has not been trained for this recipe yet"):
        compress(small_model, PRUNED, small_data)


@pytest.mark.parametrize("before", ["- prune: {ratio: 0.5}", "- quantize: {bits: 2}", "- share: {bits: 2}",
                                    "- prune: {granularity: filter, ratio: 0.5}"])  # fmt: skip
def test_training_makes_a_compressed_model_better_and_leaves_it_compressed(
    before: str, small_model: Model, small_data: Dataset
) -> None:
    recipe = Recipe.parse(f"{before}\n- finetune: {{epochs: 4, batch: 16, learning_rate: 0.05, augment: none}}")
    trained = train(small_model, small_data, recipe, place=Within()).result()
    assert trained.after.value > max(0.8, trained.before.value + 0.2)
    plain, tuned = compress(small_model, before, small_data), compress(small_model, recipe, small_data)
    assert tuned.nbytes < 1.05 * plain.nbytes + 300
    for name, tensor in plain.tensors.items():
        assert tuned.tensors[name].shape == tensor.shape
    if "0.5}" in before and "filter" not in before:
        assert int((tuned.tensors["conv.weight"] == 0).sum()) >= int((plain.tensors["conv.weight"] == 0).sum())
    with Session(small_model, small_data, split="validation", history=":memory:") as session:
        snapshot = session.measure(recipe)
        assert snapshot.accuracy is not None
        assert snapshot.accuracy.value == pytest.approx(trained.after.value, abs=0.02)


def test_a_training_that_is_killed_goes_on_to_the_numbers_of_an_unbroken_one(
    small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    recipe = Recipe.parse(PRUNED)
    train(small_model, small_data, recipe, place=Within()).result()
    unbroken = compress(small_model, recipe, small_data).tensors
    monkeypatch.setenv("WORKBENCH_HOME", f"{tmp_path}/other")
    place = Apart()
    job = train(small_model, small_data, recipe, place=place)
    groups = _kill_after_an_epoch(job, place)
    with pytest.raises(WorkbenchError, match="ended by itself"):
        job.result()
    assert groups[0] != os.getpgid(0)  # what interrupts this process does not reach it
    with pytest.raises(MissingTraining):
        compress(small_model, recipe, small_data)
    again = train(small_model, small_data, recipe, place=Within())
    assert len(again.result().curve) == 4
    resumed = compress(small_model, recipe, small_data).tensors
    assert all(torch.equal(resumed[name], tensor) for name, tensor in unbroken.items())


def _kill_after_an_epoch(job: TrainingJob, place: Apart) -> list[int]:
    """Kill the job's process once its curve has begun; return, when it has, its group of processes."""
    killed: list[int] = []

    def kill(_: object) -> None:
        if job.curve and place.process and not killed:
            killed.append(os.getpgid(place.process.pid))
            os.kill(place.process.pid, signal.SIGKILL)

    job.subscribe(kill)
    kill(None)
    return killed


def test_a_cancelled_training_keeps_its_place(small_model: Model, small_data: Dataset) -> None:
    recipe = Recipe.parse(PRUNED.replace("epochs: 4", "epochs: 60"))
    job = train(small_model, small_data, recipe, place=Within())
    job.subscribe(lambda _: job.cancel() if job.curve else None)
    job.wait(120)
    assert job.progress.state == "cancelled"
    again = train(small_model, small_data, recipe, place=Within())
    seen: list[int] = []
    again.subscribe(lambda _: (seen.append(len(again.curve)), again.cancel()) if again.curve else None)  # type: ignore[arg-type,func-returns-value]
    again.wait(120)
    assert seen
    assert seen[0] >= len(job.curve)


@pytest.mark.parametrize("text", [PRUNED, "- learn_bits: {epochs: 4, batch: 16, max_bytes: 900, search: 0.5}"])
@pytest.mark.parametrize("epoch", [3, 4])
def test_stopped_after_the_last_step_of_an_epoch_it_is_judged_all_the_same(
    text: str, epoch: int, small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = Recipe.parse(text)
    unbroken = train(small_model, small_data, recipe, place=Within()).result()
    tensors = dict(compress(small_model, recipe, small_data).tensors)
    for version in ("earlier", "present"):
        monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / version))
        place = Within()
        with monkeypatch.context() as patch:
            _stop_after(epoch, version, place, patch)
            job = train(small_model, small_data, recipe, place=place)
            assert job.wait(60)
        assert job.progress.state == ("cancelled" if version == "earlier" or epoch < 4 else "done")
        resumed = train(small_model, small_data, recipe, place=Within()).result()
        assert [point.accuracy for point in resumed.curve] == [point.accuracy for point in unbroken.curve]
        assert resumed.after == unbroken.after
        kept = compress(small_model, recipe, small_data).tensors
        assert [name for name, tensor in tensors.items() if not torch.equal(kept[name], tensor)] == []


def _stop_after(epoch: int, version: str, place: Within, patch: pytest.MonkeyPatch) -> None:
    """End a training after the last step of an epoch; an earlier version did not judge it any more."""
    judge, take = Trainer._judge, Stepper.take

    def unjudged(trainer: Trainer, number: int) -> str:
        if number + 1 == epoch:
            raise Stopped
        return judge(trainer, number)

    def last(stepper: Stepper, batch: Any, moment: Moment) -> float:
        if moment.step + 1 == epoch * moment.each:
            place.stop()
        return take(stepper, batch, moment)

    if version == "earlier":
        patch.setattr(Trainer, "_judge", unjudged)
    else:
        patch.setattr(Stepper, "take", last)


@pytest.mark.parametrize("step", ["prune_gradually: {end: 0.7,", "regularize: {", "find_ticket: {rounds: 2,"])
def test_patience_begins_once_something_is_kept(step: str, small_model: Model, small_data: Dataset) -> None:
    epochs = 1 if step.startswith("find") else 4
    recipe = Recipe.parse(f"- {step} epochs: {epochs}, patience: 1, batch: 16, augment: none}}")
    trained = train(small_model, small_data, recipe, place=Within()).result()
    compress(small_model, recipe, small_data)
    assert trained.curve[-1].epoch >= 3


def test_a_pause_is_no_time_of_training(
    small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests = iter((0.0, 10_000.0))

    class Place(Within):
        def run(self, request: Request, follow: Any) -> None:
            going = self._going

            def rest(timeout: float | None = None) -> bool:
                clock.now += next(rests, 0.0)
                return True

            going.wait = rest  # type: ignore[method-assign]
            super().run(request, follow)

    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("workbench.train.loop.loop.time", clock)
    recipe = Recipe.parse(PRUNED.replace("epochs: 4", "epochs: 4, minutes: 1"))
    trained = train(small_model, small_data, recipe, place=Place()).result()
    assert clock.now == 10_000
    assert trained.stopped == ""
    assert trained.curve[-1].seconds == 0


def test_what_is_left_of_a_training_leaves_out_its_pauses(
    small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("workbench.train.jobs.job.time", clock)
    job = train(small_model, small_data, Recipe.parse(PRUNED), place=Within())
    job.pause()
    clock.now = 100.0
    job.pause()  # once more says nothing new
    job.resume()
    job.resume()
    assert job.still == 100
    assert job.wait(60)


def test_the_same_training_is_not_started_twice(small_model: Model, small_data: Dataset) -> None:
    recipe = Recipe.parse(PRUNED.replace("epochs: 4", "epochs: 500"))
    first = train(small_model, small_data, recipe, place=Within())
    second: list[TrainingJob] = []
    first.subscribe(
        lambda _: second.append(train(small_model, small_data, recipe, place=Within())) if not second else None
    )
    while not second and first.running:
        first.wait(0.05)
    with pytest.raises(WorkbenchError, match="running already"):
        second[0].result()
    first.cancel()
    assert first.wait(60)


def test_a_loss_that_is_no_number_says_at_which_step(small_model: Model, small_data: Dataset) -> None:
    text = "- finetune: {epochs: 2, batch: 16, learning_rate: 10, augment: none, schedule: constant}"
    broken = {
        **small_data.splits,
        "train": replace(small_data["train"], images=small_data["train"].images * float("inf")),
    }
    with pytest.raises(WorkbenchError, match=r"no number any more at step \d+: take a smaller learning rate"):
        train(small_model, replace(small_data, splits=broken), Recipe.parse(text), place=Within()).result()


def test_a_loss_gone_nan_later_stops_there_and_the_best_state_is_kept(
    small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Stepper.take

    def break_down(self: Stepper, batch: Any, moment: Moment) -> float:
        loss = take(self, batch, moment)
        if moment.step < 40:
            return loss
        with torch.no_grad():
            for parameter in self._student.parameters():
                parameter.fill_(float("nan"))
        return float("nan")

    monkeypatch.setattr(Stepper, "take", break_down)
    recipe = Recipe.parse(PRUNED)
    trained = train(small_model, small_data, recipe, place=Within()).result()
    assert trained.stopped.startswith("The loss was no number any more at step 41: take a smaller learning rate, or ")
    assert len(trained.curve) == 1
    assert trained.after.value == max(trained.before.value, trained.curve[0].accuracy)
    assert all(bool(tensor.isfinite().all()) for tensor in compress(small_model, recipe, small_data).tensors.values())


def test_a_state_that_answers_with_no_numbers_is_right_about_nothing(
    small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first class is nearly all there is, and the largest of logits that are all NaN is the first."""
    split = small_data["validation"]
    mostly = split.take(torch.cat([torch.where(split.labels == 0)[0], torch.arange(1, 3)]), "validation")
    data = replace(small_data, splits={**small_data.splits, "validation": mostly})
    take = Stepper.take

    def break_down(self: Stepper, batch: Any, moment: Moment) -> float:
        loss = take(self, batch, moment)
        if moment.step + 1 == moment.each:
            with torch.no_grad():
                for parameter in self._student.parameters():
                    parameter.fill_(float("nan"))
        return loss

    monkeypatch.setattr(Stepper, "take", break_down)
    trained = train(small_model, data, Recipe.parse(PRUNED), place=Within()).result()
    assert trained.curve[0].accuracy == 0
    assert trained.after == trained.before


def test_a_training_that_gained_nothing_says_so(small_model: Model, small_data: Dataset) -> None:
    recipe = Recipe.parse("- prune: {ratio: 0.5}\n- finetune: {epochs: 1, batch: 16, learning_rate: 1.0e-9}")
    trained = train(small_model, small_data, recipe, place=Within()).result()
    assert trained.after == trained.before
    assert trained.note == "No epoch was more accurate than the model was before: that is kept."


@pytest.mark.parametrize(("keep", "kept"), [("best", 1), ("last", 3)])
def test_the_most_accurate_epoch_is_kept_or_the_last(
    keep: str, kept: int, small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter((0.2, 0.9, 0.8, 0.7))
    weights: list[torch.Tensor] = []

    def judge(self: Trainer) -> float:
        weights.append(self.student.learned()["conv.weight"])
        return next(found)

    monkeypatch.setattr(Trainer, "_accuracy", judge)
    recipe = Recipe.parse(PRUNED.replace("epochs: 4", f"epochs: 3, keep: {keep}"))
    trained = train(small_model, small_data, recipe, place=Within()).result()
    assert trained.after.value == (0.9 if keep == "best" else 0.7)
    assert torch.equal(compress(small_model, recipe, small_data).tensors["conv.weight"], weights[kept])


def test_what_was_trained_is_judged_by_the_present_validation_split(small_model: Model, small_data: Dataset) -> None:
    recipe = Recipe.parse("- prune: {ratio: 0.5}\n- finetune: {epochs: 1, batch: 16, learning_rate: 0.05}")
    first = train(small_model, small_data, recipe, place=Within()).result()
    assert first.after.value > 0.9
    split = small_data["validation"]
    other = Split("validation", split.images[:60], (split.labels[:60] + 1) % 3)
    data = replace(small_data, splits={**small_data.splits, "validation": other})
    found = train(small_model, data, recipe, place=Within()).result()
    module = compress(small_model, recipe, data).module
    with torch.no_grad():
        right = int((module(other.images).argmax(1) == other.labels).sum())
    assert (found.after.value, found.after.n, found.curve) == (right / 60, 60, ())
    assert "another validation split" in found.note


def test_patience_and_the_last_epoch_do_not_go_together() -> None:
    with pytest.raises(RecipeError, match="patience waits for a better epoch"):
        Recipe.parse("- finetune: {patience: 2, keep: last}")


def _with_train(data: Dataset, labels: torch.Tensor) -> Dataset:
    return replace(data, splits={**data.splits, "train": Split("train", data["train"].images, labels)})


def test_bad_data_is_refused_in_a_sentence(small_model: Model, small_data: Dataset) -> None:
    recipe = Recipe.parse(PRUNED)
    labels = small_data["train"].labels
    without = replace(small_data, splits={name: part for name, part in small_data.splits.items() if name != "train"})
    for data, sentence in (
        (without, "needs a split 'train'"),
        (_with_train(small_data, torch.zeros_like(labels)), "All training images of 'patches' are of class 0"),
        (_with_train(small_data, labels + 1), "Labels 1 to 3 of split 'train' of 'patches' are out of range"),
    ):
        with pytest.raises(WorkbenchError, match=sentence):
            train(small_model, data, recipe)
    with pytest.raises(WorkbenchError, match="takes a core or more, not 0"):
        train(small_model, small_data, recipe, threads=0)
    with pytest.raises(WorkbenchError, match="no step that trains"):
        train(small_model, small_data, Recipe.parse("- prune: {ratio: 0.5}"))


def test_distillation_is_the_published_loss() -> None:
    torch.manual_seed(0)
    teacher, student = nn.Linear(4, 3), nn.Linear(4, 3)
    images, labels = torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1])
    soft = [F.softmax(model(images) / 3.0, -1) for model in (teacher, student)]
    divergence = (soft[0] * (soft[0] / soft[1]).log()).sum(-1).mean()
    expected = 0.7 * 9 * divergence + 0.3 * F.cross_entropy(student(images), labels)
    torch.testing.assert_close(Answers(teacher, "kl", 3.0, 0.7, None).loss(student, images, labels), expected)


def test_a_time_limit_ends_training_with_the_best_state_kept(small_model: Model, small_data: Dataset) -> None:
    recipe = Recipe.parse(PRUNED.replace("epochs: 4", "epochs: 1000, minutes: 0.005"))
    trained = train(small_model, small_data, recipe, place=Within()).result()
    assert trained.stopped == "The time of 0.005 minutes is over."
    assert trained.curve
    compress(small_model, recipe, small_data)
    with pytest.raises(WorkbenchError, match="minutes is 0, but it should be greater than 0"):
        Recipe.parse("- finetune: {minutes: 0}")


def test_a_full_disk_is_told_in_a_sentence(
    small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workbench.encodings.artefacts.write_atomically", refuse)
    with pytest.raises(WorkbenchError, match=r"could not be saved to .* \(No space left on device\); free some space"):
        train(small_model, small_data, Recipe.parse(PRUNED), place=Within()).result()


def test_a_disk_that_fills_up_costs_what_came_after_the_last_checkpoint(
    small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def fill(path: Path, content: bytes) -> Path:
        sizes.append(len(content))
        if len(sizes) == 3:
            raise OSError(28, "No space left on device")
        return write_atomically(path, content)

    monkeypatch.setattr("workbench.encodings.artefacts.write_atomically", fill)
    recipe = Recipe.parse(PRUNED)
    with pytest.raises(WorkbenchError, match=r"Started again, the training goes on from its last checkpoint\.$"):
        train(small_model, small_data, recipe, place=Within()).result()
    taken: list[Moment] = []
    step = Stepper.take

    def counted(stepper: Stepper, batch: Any, moment: Moment) -> float:
        taken.append(moment)
        return step(stepper, batch, moment)

    monkeypatch.setattr(Stepper, "take", counted)
    assert len(train(small_model, small_data, recipe, place=Within()).result().curve) == 4
    assert [moment.step for moment in taken] == list(range(2 * taken[0].each, 4 * taken[0].each))


def test_an_erased_square_is_of_its_size_and_each_image_has_its_own() -> None:
    images = torch.rand(64, 1, 20, 20) + 1
    found = erased(images, 0.5, torch.Generator().manual_seed(0))
    gone = (found != images).flatten(1).sum(1)
    assert int(gone.max()) == 100
    assert int(gone.min()) >= 25  # at most half of a side is outside
    assert len({tuple(row.nonzero()[0].tolist()) for row in (found != images)[:, 0]}) > 20
    assert torch.equal(erased(images, 0.0, torch.Generator()), images)
