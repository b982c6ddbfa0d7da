"""Steps in parts, in fewer bits and with less memory: the same numbers, and what they cost is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.compression import compress
from workbench.data.dataset import Dataset
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.models.zoo.resnet import ResNet20
from workbench.recipe import Recipe
from workbench.train.jobs.job import Trained, train
from workbench.train.jobs.process import Within
from workbench.train.loop.gradient_checkpointing import blocks_of, checkpoint_blocks
from workbench.train.loop.measuring import peak_bytes, seconds_of
from workbench.train.loop.precision import Precision
from workbench.train.methods.prune_gradually import Moving, PruneGradually
from workbench.train.student import Student

TUNED = "finetune: {epochs: 2, batch: 16, images: 160, learning_rate: 0.05, augment: none"


def tensors_after(model: Model, data: Dataset, recipe: str) -> tuple[Trained, Mapping[str, Tensor]]:
    parsed = Recipe.parse(recipe)
    trained = train(model, data, parsed, place=Within()).result()
    return trained, compress(model, parsed, data).tensors


class Residual(nn.Module):
    """A block with BatchNorm and dropout around which its input goes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.drop = nn.Dropout(0.2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drop(torch.relu(self.norm(self.conv(x))))


class Blocks(nn.Sequential):
    """Three residual blocks between a convolution and a Linear, on images ``(1, 8, 8)`` of three classes."""

    def __init__(self) -> None:
        blocks = nn.Sequential(*(Residual(8) for _ in range(3)))
        super().__init__(nn.Conv2d(1, 8, 3, padding=1), blocks, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3))


@pytest.fixture
def blocks() -> Model:
    torch.manual_seed(2)
    return load_model(Blocks().eval())


def test_gradients_of_parts_add_up_to_those_of_the_batch(small_data: Dataset) -> None:
    torch.manual_seed(3)
    model = load_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3)).eval())
    _, whole = tensors_after(model, small_data, f"- {TUNED}}}")
    _, parts = tensors_after(model, small_data, f"- {TUNED}, accumulate: 5}}")
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(parts[name], tensor) for name, tensor in whole.items())  # it really was in parts


def test_no_step_is_taken_on_a_gradient_longer_than_asked_for(
    blocks: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[float] = []
    step = Precision.step

    def noted(self: Precision, optimizer: torch.optim.Optimizer) -> None:
        gradients = [one.grad.flatten() for group in optimizer.param_groups for one in group["params"]]
        lengths.append(float(torch.cat(gradients).norm()))
        step(self, optimizer)

    monkeypatch.setattr(Precision, "step", noted)
    tensors_after(blocks, small_data, f"- {TUNED}}}")
    free = lengths.copy()
    lengths.clear()
    tensors_after(blocks, small_data, f"- {TUNED}, gradient_clip: 0.1}}")
    assert len(lengths) == len(free) == 20
    assert max(lengths) == pytest.approx(0.1, rel=1e-3)
    assert min(free) > 0.2
    assert lengths[0] < free[0]


@pytest.mark.parametrize("method", [TUNED, TUNED.replace("finetune: {", "distill: {loss: hint, ")])
def test_checkpointed_blocks_learn_the_very_same_with_less_memory(
    method: str, blocks: Model, small_data: Dataset
) -> None:
    before = "- prune: {ratio: 0.3}\n- quantize: {bits: 6, activations: {bits: 6}}\n"
    _, plain = tensors_after(blocks, small_data, f"{before}- {method}}}")
    trained, again = tensors_after(blocks, small_data, f"{before}- {method}, gradient_checkpointing: true}}")
    assert all(torch.equal(again[name], tensor) for name, tensor in plain.items())
    assert trained.note.startswith("Gradient checkpointing of 3 blocks: a step's tensors take ")
    within, without = (float(part.split(" MB")[0].split()[-1]) for part in trained.note.split("instead of"))
    assert within < without


def test_blocks_are_found_through_plain_lists_and_checkpointing_can_be_undone() -> None:
    body = ResNet20()
    assert len(blocks_of(body)) == 9
    images = torch.randn(8, 1, 28, 28)
    plain = peak_bytes(lambda: body(images).sum().backward())
    undo = checkpoint_blocks(body)
    assert peak_bytes(lambda: body(images).sum().backward()) < 0.6 * plain
    undo()
    assert peak_bytes(lambda: body(images).sum().backward()) == pytest.approx(plain, rel=0.05)


def test_a_model_without_blocks_says_that_there_is_nothing_to_checkpoint(
    small_model: Model, small_data: Dataset
) -> None:
    trained, _ = tensors_after(small_model, small_data, f"- {TUNED}, gradient_checkpointing: true}}")
    assert trained.note == "The model has no blocks, so gradient checkpointing changes nothing here."


def test_the_most_memory_at_once_is_counted_not_the_sum() -> None:
    def run() -> None:
        for _ in range(3):
            torch.zeros(1000).add_(1)
        held = torch.ones(500) * 2
        held.view(50, 10).sum()

    assert peak_bytes(run) == 4 * 1000


def told(times: float) -> Callable[..., dict[str, float]]:
    """Return a measurement that found 16 bits to take ``times`` as long as fp32."""

    def measure(ways: Mapping[str, Callable[[], None]], check: Callable[[], None], **how: int) -> dict[str, float]:
        seconds_of(ways, check, **how)
        return {name: 1.0 if name == "fp32" else times for name in ways}

    return measure


def test_arithmetic_that_is_slower_here_stays_out_and_is_told(
    blocks: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.train.loop.stepping.seconds_of", told(8.0))
    trained, kept = tensors_after(blocks, small_data, f"- {TUNED}, precision: bf16}}")
    assert trained.note == "A step in bf16 takes 8.0 times as long as in fp32 here, so training stays in fp32."
    _, plain = tensors_after(blocks, small_data, f"- {TUNED}}}")
    assert all(torch.equal(kept[name], tensor) for name, tensor in plain.items())  # measuring left no trace


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_arithmetic_that_is_quicker_is_used_and_a_stopped_training_goes_on_in_it(
    precision: str, small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("workbench.train.loop.stepping.seconds_of", told(0.5))
    recipe = f"- {TUNED}, precision: {precision}}}"
    trained, unbroken = tensors_after(small_model, small_data, recipe)
    assert trained.note == (
        f"A step in {precision} takes 50% of the time that it takes in fp32 here, so {precision} is used."
    )
    assert trained.after.value > trained.before.value + 0.2
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "other"))
    job = train(small_model, small_data, Recipe.parse(recipe), place=Within())
    job.subscribe(lambda _: job.cancel() if job.curve else None)
    job.wait(60)
    assert job.progress.state == "cancelled"
    monkeypatch.setattr("workbench.train.loop.stepping.seconds_of", told(2.0))  # not asked again
    resumed, tensors = tensors_after(small_model, small_data, recipe)
    assert resumed.note == trained.note
    assert all(torch.equal(tensors[name], tensor) for name, tensor in unbroken.items())


def test_movements_in_16_bits_are_of_their_own_size(
    small_model: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workbench.train.loop.stepping.seconds_of", told(0.5))
    sizes: dict[str, list[float]] = {"fp32": [], "fp16": []}
    for precision, found in sizes.items():
        tell = PruneGradually.after_backward

        def after(
            self: PruneGradually, student: Student, *more: Any, found: list[float] = found, tell: Any = tell
        ) -> None:
            tell(self, student, *more)
            scores = [part.score for _, part in student.parts() if isinstance(part, Moving)]
            found.append(max(float(score.abs().max()) for score in scores))

        with monkeypatch.context() as patch:
            patch.setattr(PruneGradually, "after_backward", after)
            step = TUNED.replace("finetune", "prune_gradually").replace("epochs: 2", "epochs: 1")
            tensors_after(small_model, small_data, f"- {step}, criterion: movement, precision: {precision}}}")
    assert sizes["fp16"][0] == pytest.approx(sizes["fp32"][0], rel=0.05)
    assert sizes["fp16"][-1] < 10 * sizes["fp32"][-1]


def test_a_step_that_overflows_is_left_out_and_the_scale_halved() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], 0.1)
    precision = Precision("fp16", "cpu")
    first = precision.state()["scaler"]["scale"]
    precision.backward((weight * torch.tensor([1.0, float("inf"), 1.0])).sum())
    precision.unscale(optimizer)
    precision.step(optimizer)
    assert weight.tolist() == [1, 1, 1]
    again = Precision.from_state(precision.state(), "cpu")
    assert again.state()["scaler"]["scale"] == first / 2
    optimizer.zero_grad()
    again.backward((weight * 2).sum())
    again.unscale(optimizer)
    assert weight.grad is not None
    assert weight.grad.tolist() == [2, 2, 2]
    again.step(optimizer)
    assert weight.tolist() == pytest.approx([0.8, 0.8, 0.8])
