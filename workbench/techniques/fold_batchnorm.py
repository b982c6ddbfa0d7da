"""BatchNorm folded: each filter is multiplied by what its BatchNorm will multiply it by.

A runtime does so when it loads a model, so what it rounds are the folded weights (Jacob et al. 2018, section
3.2; Krishnamoorthi 2018, section 3.2.2). Folded before ``quantize``, the grid is that of the weights that run;
``finetune: {batchnorm: fold}`` then trains with them. The BatchNorm stays in the model with a factor of one,
and adds what is left: the structure is the same, the model computes the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.models.chains import Normed, find_normed

from .base import Cost, Settings, Technique
from .context import Context
from .draft import Draft


class FoldBatchnormSettings(Settings):
    """Settings of ``fold_batchnorm``: there are none but the layers."""


def apply(draft: Draft, settings: Mapping[str, FoldBatchnormSettings], context: Context) -> None:
    """Fold the BatchNorms that follow the layers of ``settings``.

    Raises ``WorkbenchError`` where a layer's weights are stored on a grid or in a table already.
    """
    if not settings:
        return
    normed = [pair for pair in normed_layers(draft, context) if pair.layer in settings]
    if not normed:
        draft.notes.append("Nothing to fold: no BatchNorm follows one of the layers and nothing else.")
    for pair in normed:
        if f"{pair.layer}.weight" in draft.stored:
            raise WorkbenchError(
                f"The weights of layer '{pair.layer}' are stored in few values already, which folding would take "
                "them off: put fold_batchnorm before quantize and share."
            )
    how = f"fold_batchnorm {draft.state}"
    for pair in normed:
        for name, value in folded(draft.tensors, pair, epsilon(draft, pair)).items():
            draft.rewrite(name, value, how)


def normed_layers(draft: Draft, context: Context) -> tuple[Normed, ...]:
    """Return the layers that a BatchNorm follows in the present structure, found once for each state of the model."""
    return context.cache.get(("normed", draft.state), lambda: find_normed(draft.build(), draft.stacked))


def epsilon(draft: Draft, pair: Normed) -> float:
    """Return what the pair's BatchNorm adds to its variance."""
    return float(getattr(draft.module(pair.norm), "eps"))  # noqa: B009 - a module's attributes are of no known type


def factor_of(tensors: Mapping[str, Tensor], norm: str, eps: float) -> Tensor:
    """Return what a BatchNorm multiplies each channel by, ``(channels,)``."""
    return tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + eps).sqrt()


def folded(tensors: Mapping[str, Tensor], pair: Normed, eps: float) -> dict[str, Tensor]:
    """Return the pair's tensors with the layer's filters multiplied by the BatchNorm's factor, and that one gone."""
    factor = factor_of(tensors, pair.norm, eps)
    weight = tensors[f"{pair.layer}.weight"]
    found = {f"{pair.layer}.weight": weight * factor.view(-1, *[1] * (weight.ndim - 1))}
    if f"{pair.layer}.bias" in tensors:
        found[f"{pair.layer}.bias"] = tensors[f"{pair.layer}.bias"] * factor
    mean = tensors[f"{pair.norm}.running_mean"] * factor
    return found | neutral(pair.norm, mean, tensors[f"{pair.norm}.weight"], eps)


def neutral(norm: str, mean: Tensor, gamma: Tensor, eps: float) -> dict[str, Tensor]:
    """Return a BatchNorm's statistics and weight such that it multiplies by one.

    Its channels have the variance gamma², which is what folded filters give; where gamma is about zero nothing
    is left of the channel, and a variance of one does.
    """
    spread = gamma.square()
    variance = torch.where(spread > 2 * eps, spread - eps, torch.ones_like(spread))
    return {
        f"{norm}.running_mean": mean, f"{norm}.running_var": variance, f"{norm}.weight": (variance + eps).sqrt(),
    }  # fmt: skip


def _cost(settings: FoldBatchnormSettings) -> Cost:
    return Cost.LIVE


FOLD_BATCHNORM = Technique(
    name="fold_batchnorm",
    summary="Multiply BatchNorm's factors into the filters, so that what is rounded is what a runtime runs.",
    source="Jacob et al. 2018; Krishnamoorthi 2018",
    url="https://arxiv.org/abs/1806.08342",
    settings=FoldBatchnormSettings,
    apply=apply,
    cost=_cost,
    examples=("- fold_batchnorm: {}\n- quantize: {bits: 4, per: tensor}",),
)
