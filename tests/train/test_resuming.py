"""Whatever a method remembers while it trains is in its checkpoint: cancelled and resumed, it learns the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from workbench.compression import compress
from workbench.data.dataset import Dataset
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within


class Tied(nn.Module):
    """Two layers of one weight, and the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.last = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 3)
        self.other.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.last(torch.relu(self.other(torch.relu(self.one(x.flatten(1))))))
        return logits


FAST = "epochs: 3, batch: 16, augment: none, learning_rate: 0.01"


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        f"- learn_bits: {{{FAST}, max_bytes: 900}}",
        f"- predict_filters: {{{FAST}, search: 0.7}}",
        f"- learn_scores: {{{FAST}}}",
        f"- sparsify_bayesian: {{{FAST}, prior: normal_jeffreys, bits: true}}",
        "- fold_batchnorm: {}\n- quantize: {bits: 4, activations: {bits: 8}}\n"
        f"- finetune: {{{FAST}, batchnorm: fold, batchnorm_until: 0.8, learn_inputs: step, learn_offsets: true}}",
        f"- quantize: {{format: ternary}}\n- finetune: {{{FAST}, two_scales: true}}",
        f"- prune: {{ratio: 0.5}}\n- share: {{bits: 2}}\n- distill: {{{FAST}, reassign: true}}",
    ],
)
def test_a_training_that_was_cancelled_goes_on_to_the_same_numbers(
    text: str, small_model: Model, small_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.parse(text)
    train(small_model, small_data, recipe, place=Within()).result()
    unbroken = dict(compress(small_model, recipe, small_data).tensors)
    monkeypatch.setenv("WORKBENCH_HOME", f"{tmp_path}/other")
    job = train(small_model, small_data, recipe, place=Within())
    job.subscribe(lambda _: job.cancel() if job.curve else None)
    job.wait(120)
    assert job.progress.state == "cancelled"
    again = train(small_model, small_data, recipe, place=Within())
    assert len(again.result().curve) == 3
    resumed = compress(small_model, recipe, small_data).tensors
    assert [name for name, tensor in unbroken.items() if not torch.equal(resumed[name], tensor)] == []


def test_a_model_with_tied_weights_is_trained_and_resumed(
    small_data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model, recipe = load_model(Tied().eval()), Recipe.parse(f"- finetune: {{{FAST}}}")
    found = train(model, small_data, recipe, place=Within()).result()
    assert found.after.value > found.before.value
    unbroken = dict(compress(model, recipe, small_data).tensors)
    assert unbroken.keys() == {"one.weight", "one.bias", "other.bias", "last.weight", "last.bias"}
    monkeypatch.setenv("WORKBENCH_HOME", f"{tmp_path}/other")
    job = train(model, small_data, recipe, place=Within())
    job.subscribe(lambda _: job.cancel() if job.curve else None)
    job.wait(120)
    assert job.progress.state == "cancelled"
    train(model, small_data, recipe, place=Within()).result()
    resumed = compress(model, recipe, small_data).tensors
    assert [name for name, tensor in unbroken.items() if not torch.equal(resumed[name], tensor)] == []
