"""Bayesian compression: weights become distributions, and what is mostly noise is dropped.

Training balances the loss against the divergence of the weights' posterior from a prior that likes few of them;
the divergence comes in over the first part of the training, so that the data are heard first. Noise is drawn once
a batch for each weight.

- ``log_uniform``: sparse variational dropout. Each weight has a mean and a variance (Molchanov, Ashukha and Vetrov
  2017, "Variational Dropout Sparsifies Deep Neural Networks", equation 14; additive noise as in section 4.2).
- ``normal_jeffreys``: the weights of a group share a scale with a posterior of its own, and are normal given it
  (Louizos, Ullrich and Welling 2017, "Bayesian Compression for Deep Learning", equations 7 to 9), so that whole
  inputs, neurons or filters go.

Where the noise-to-signal ratio of a weight or of a group's scale, log α = log(σ² / μ²), exceeds ``noise``, it is
dropped. The variances also say how finely the others must be kept: with ``bits`` each layer is rounded to a grid
whose rounding error has about the mean posterior variance, a step of √(12 σ²) (after section 4.1 of Louizos et al.,
who do so for floating-point numbers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from ..base import When
from .base import trained_technique
from .taught import BesideSettings


class SparsifyBayesianSettings(BesideSettings):
    """Settings of ``sparsify_bayesian``."""

    added: ClassVar[frozenset[str]] = BesideSettings.added | {"prior", "groups", "bits"}
    own: ClassVar[frozenset[str]] = frozenset({"prior", "groups", "noise", "bits"})
    when: ClassVar[Mapping[str, When]] = {
        **BesideSettings.when, "groups": {"prior": ("normal_jeffreys",)},
    }  # fmt: skip

    prior: Literal["log_uniform", "normal_jeffreys"] = Field(
        "log_uniform", description="What is likely to be nothing: single weights, or groups that share a scale."
    )
    groups: Literal["auto", "input", "output"] = Field(
        "auto", description="What shares a scale: an input or an output; inputs of Linear, else filters (auto)."
    )
    strength: float = Field(
        1.0, ge=0, le=1e4, description="Weight of the divergence; 1 is the variational bound, larger drops more."
    )
    noise: float = Field(
        3.0, ge=-5, le=10, description="Drop weights or groups whose log of variance over squared mean is more."
    )
    bits: bool = Field(
        False, description="Store each layer in as few bits as the variances of its weights allow, 2 to 8."
    )
    rise: float = Field(0.5, ge=0, le=1, description="Share of the training over which the divergence comes in.")
    pace: float = Field(10.0, gt=0, le=1e4, description="Step size of the variances, as a multiple of the weights'.")
    epochs: int = Field(10, ge=1, le=1000, description="Passes over the training images.")


SPARSIFY_BAYESIAN = trained_technique(
    name="sparsify_bayesian",
    summary="Learn a distribution for each weight, and drop weights or groups that are mostly noise.",
    settings=SparsifyBayesianSettings,
    source="Molchanov, Ashukha and Vetrov 2017; Louizos, Ullrich and Welling 2017",
    url="https://arxiv.org/abs/1705.08665",
)
