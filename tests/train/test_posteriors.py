"""Posteriors are those of the papers, and what they say of noise and bits is what is dropped and stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from workbench.compressed import CompressedModel
from workbench.compression import compress
from workbench.data.dataset import Dataset
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.techniques.storage import Codes
from workbench.train.constraints.base import Constraint, Masked
from workbench.train.constraints.posteriors import GroupNoisy, Noisy, bits_for, divergence_from_log_uniform
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within

FAST: dict[str, Any] = {"epochs": 6, "batch": 16, "augment": "none", "optimizer": "adamw", "learning_rate": 0.01}


def part_of(seed: int = 0) -> GroupNoisy:
    """A tensor of three groups with a posterior that is not the first one."""
    chance = torch.Generator().manual_seed(seed)
    part = GroupNoisy(Constraint(torch.randn(4, 3, generator=chance)), 1, 3.0)
    with torch.no_grad():
        part.scale_log_variance.copy_(torch.tensor([[-4.0, -2.0, -1.0]]))
        part.log_variance.uniform_(-4, 0, generator=chance)
    return part


def test_values_given_their_scale_diverge_as_two_normal_distributions_do() -> None:
    """Louizos et al. 2017, equation 9; whatever the scale is."""
    part = part_of()
    scales = divergence_from_log_uniform(part.log_alpha()).sum()
    for z in (0.3, 2.0):
        posterior = Normal(z * part.inner(), z * (0.5 * part.log_variance).exp())
        wanted = kl_divergence(posterior, Normal(0.0, z)).sum()
        torch.testing.assert_close(part.divergence() - scales, wanted)


def test_a_scale_diverges_from_the_log_uniform_prior_as_its_integral_says() -> None:
    """The integral of q log(q |z|) over z, up to one constant; the approximation is good to a few hundredths."""
    z = np.linspace(-60, 60, 600_001)
    found, wanted = [], []
    for log_alpha in (-3.0, 0.0, 2.0, 5.0):
        deviation = np.exp(log_alpha / 2)
        density = np.exp(-0.5 * ((z - 1) / deviation) ** 2) / (deviation * np.sqrt(2 * np.pi))
        whole = density * (np.log(density + 1e-300) + np.log(np.abs(z) + 1e-12))
        wanted.append(whole.sum() * (z[1] - z[0]))
        found.append(float(divergence_from_log_uniform(torch.tensor(log_alpha))))
    assert np.diff(found) == pytest.approx(np.diff(wanted), abs=0.05)


def test_drawn_values_have_the_mean_and_the_variance_told() -> None:
    part = part_of()
    torch.manual_seed(0)
    with torch.no_grad():
        drawn = torch.stack([part.draw() for _ in range(6_000)])
        torch.testing.assert_close(drawn.mean(0), part.mean(), rtol=0.05, atol=0.08)
        torch.testing.assert_close(drawn.var(0), part.variance(), rtol=0.1, atol=0.01)


def test_it_begins_with_the_weights_and_little_noise() -> None:
    values = torch.randn(4, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.01, 0.1, 1.0])
    part = GroupNoisy(Constraint(values), 1, 3.0)
    torch.testing.assert_close(part.eval()(), values)
    assert (part.variance() < 1e-3 * values.square().mean(0)).all()


@pytest.mark.parametrize(("reach", "variance", "bits"), [(1.0, 1 / 12, 2), (1.0, (1 / 15) ** 2 / 12, 4), (1, 1e-9, 8)])
def test_bits_are_those_whose_rounding_error_is_the_variance(reach: float, variance: float, bits: int) -> None:
    assert bits_for(reach, variance * 1.0001) == bits


def trained(model: Model, data: Dataset, **settings: Any) -> tuple[CompressedModel, float]:
    recipe = Recipe.parse([{"sparsify_bayesian": {**FAST, **settings}}])
    after = train(model, data, recipe, place=Within()).result().after.value
    return compress(model, recipe, data), after


def test_groups_that_are_mostly_noise_go_as_a_whole(small_model: Model, small_data: Dataset) -> None:
    compressed, after = trained(small_model, small_data, prior="normal_jeffreys", strength=2.0, layers=["fc"])
    gone = (compressed.tensors["fc.weight"] == 0).sum(0)
    assert set(gone.tolist()) == {0, 3}
    assert (gone == 3).float().mean() > 0.1
    assert after > 0.85
    posterior = compressed.posteriors["fc.weight"]
    kept = compressed.tensors["fc.weight"] != 0
    assert torch.equal(posterior.mean[kept], compressed.tensors["fc.weight"][kept])
    ratio = posterior.mean.square() / posterior.variance
    assert ratio[kept].median() > 10 * ratio[~kept].median()


def test_what_is_stored_is_rounded_as_finely_as_the_posterior_is_certain(
    small_model: Model, small_data: Dataset
) -> None:
    compressed, after = trained(small_model, small_data, bits=True, strength=2.0)
    for name in ("conv.weight", "fc.weight"):
        storage, posterior = compressed.stored[name], compressed.posteriors[name]
        assert isinstance(storage, Codes)
        kept = compressed.tensors[name] != 0
        error = (posterior.mean - compressed.tensors[name])[kept].square().mean()
        assert error < 1.5 * posterior.variance[kept].mean() or storage.bits == 8
        assert storage.bits < 8
    split = small_data["validation"]
    with torch.no_grad():
        right = (compressed.module(split.images).argmax(1) == split.labels).float().mean()
    assert float(right) == pytest.approx(after, abs=0.01)
    assert after > 0.85


def test_a_posterior_is_forgotten_once_something_else_was_trained(small_model: Model, small_data: Dataset) -> None:
    steps = [
        {"sparsify_bayesian": {**FAST, "epochs": 1, "rise": 0.0}},
        {"finetune": {"epochs": 1, "batch": 16, "augment": "none"}},
    ]
    recipe = Recipe.parse(steps)
    train(small_model, small_data, recipe, place=Within()).result()
    assert compress(small_model, Recipe.parse(steps[:1]), small_data).posteriors
    assert not compress(small_model, recipe, small_data).posteriors


@pytest.mark.parametrize("prior", ["log_uniform", "normal_jeffreys"])
def test_what_was_pruned_before_is_not_drawn_either(prior: str) -> None:
    kept = torch.arange(12).view(4, 3) % 2 == 0
    inner = Masked(torch.ones(4, 3), kept)
    part = Noisy(inner, 3.0) if prior == "log_uniform" else GroupNoisy(inner, 1, 3.0)
    drawn = part.train()()
    assert torch.equal(drawn != 0, kept)
    part.divergence().backward()
    assert part.log_variance.grad is not None
    assert not part.log_variance.grad[~kept].any()


def test_a_divergence_that_comes_in_to_the_end_keeps_the_last_state(small_model: Model, small_data: Dataset) -> None:
    compressed, after = trained(small_model, small_data, rise=1.0, epochs=3)
    assert after > 0.85
    assert compressed.layers[1].sparsity > 0
