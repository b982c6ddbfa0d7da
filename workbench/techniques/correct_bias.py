"""Bias correction: shift each channel so that its mean output is again what it was before compression.

Rounding and pruning move the mean of what a layer gives. Measured on calibration data, layer after layer, the
shift goes into the layer's bias or, where it has none, into the running mean of the BatchNorm behind it
(Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.edits import QuantizeInput, apply_edits
from workbench.models.layers import CONVOLUTIONS
from workbench.run.moments import output_means, prepare

from .base import Cost, Settings, Technique
from .draft import Context, Draft


class CorrectBiasSettings(Settings):
    """Settings of ``correct_bias``."""

    images: int = Field(256, ge=16, le=100_000, description="Calibration images to average over, at most.")


def apply(draft: Draft, settings: Mapping[str, CorrectBiasSettings], context: Context) -> None:
    """Correct the layers of ``settings``, in the order in which they run."""
    if not settings:
        return
    if context.calibration is None:
        raise WorkbenchError("Correcting biases needs calibration data: give the dataset as well as the model.")
    chosen = next(iter(settings.values()))
    key = ("corrected", draft.state, chosen, tuple(settings), context.calibration.hash)
    changed, left = context.cache.get(key, lambda: _correct(draft, settings, chosen.images, context))
    if left:
        draft.notes.append(f"Not corrected, since they have neither bias nor BatchNorm: {', '.join(left)}.")
    for name, value in changed.items():
        draft.set_tensor(name, value, f"correct {key}")


def _correct(
    draft: Draft, layers: Iterable[str], count: int, context: Context
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Return the tensors that changed, and the layers that have no place for a correction."""
    assert context.normalization is not None
    images, normalize = context.mixed_images(count), context.normalization
    reference, changed = prepare(_uncompressed(draft)), prepare(draft.build())
    names = [name for name in draft.layers if name in set(layers) and _has_channels(changed.get_submodule(name))]
    wanted, norms = output_means(reference, names, images, normalize, context.check)
    found: dict[str, Tensor] = {}
    left = []
    for name in names:
        if name not in wanted:
            continue
        layer, norm = changed.get_submodule(name), norms.get(name)
        present, _ = output_means(changed, [name], images, normalize, context.check, stop=True)
        shift = wanted[name] - present[name]
        if getattr(layer, "bias", None) is not None:
            tensor, value = f"{name}.bias", layer.get_parameter("bias") + shift
        elif norm is not None:
            tensor, value = f"{norm}.running_mean", changed.get_submodule(norm).get_buffer("running_mean") - shift
        else:
            left.append(name)
            continue
        found[tensor] = value.detach().clone()
        with torch.no_grad():
            changed.state_dict()[tensor].copy_(found[tensor])
    return found, tuple(left)


def _uncompressed(draft: Draft) -> nn.Module:
    """Return the model as it came, cut to the present structure."""
    module = copy.deepcopy(draft.original).eval()
    apply_edits(module, [edit for edit in draft.edits if not isinstance(edit, QuantizeInput)])
    return module


def _has_channels(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, *CONVOLUTIONS))


def _cost(settings: CorrectBiasSettings) -> Cost:
    return Cost.CALIBRATED


CORRECT_BIAS = Technique(
    name="correct_bias",
    summary="Shift each channel's mean output back to what it was before compression.",
    source="Nagel et al. 2019",
    url="https://arxiv.org/abs/1906.04721",
    settings=CorrectBiasSettings,
    apply=apply,
    cost=_cost,
    examples=("- quantize: {bits: 3}\n- correct_bias: {}",),
)
