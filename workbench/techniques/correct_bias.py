"""Bias correction: shift each channel so that its mean output is again what it was before compression.

Rounding and pruning move the mean of what a layer gives. Measured on calibration data, layer after layer, the
shift goes into the layer's bias or, where it has none, into the running mean of the BatchNorm behind it
(Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2).

Pruned weights and clipped ranges also narrow what a layer gives. A ReLU then lets less through although the
mean is right, and the mean alone makes things worse: ResNet-20 with 75 % of its weights pruned falls from 63 % to
13 %, and with the spread as well it comes back to 93 %. So where there is a BatchNorm, it takes the spread too, as
Banner et al. 2019 correct weights ("Post-Training 4-bit Quantization of Convolutional Networks"). Where there is none,
a shift stays only if the model's answers on the calibration data come nearer to what they were (``guard``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.layers import CONVOLUTIONS
from workbench.run.moments import Statistics, output_statistics, outputs, prepare

from .base import Cost, Settings, Technique
from .context import Context
from .draft import Draft


class CorrectBiasSettings(Settings):
    """Settings of ``correct_bias``."""

    images: int = Field(256, ge=16, le=100_000, description="Calibration images to average over, at most.")
    spread: bool = Field(
        True, description="Also bring back how far each channel spreads, where a BatchNorm follows and can do it."
    )
    guard: bool = Field(
        True,
        description="Leave out what would move the model's answers on calibration data further from the dense model's.",
    )


def apply(draft: Draft, settings: Mapping[str, CorrectBiasSettings], context: Context) -> None:
    """Correct the layers of ``settings``, in the order in which they run."""
    if not settings:
        return
    if context.calibration is None:
        raise WorkbenchError("Correcting biases needs calibration data: give the dataset as well as the model.")
    chosen = next(iter(settings.values()))
    key = ("corrected", draft.state, chosen, tuple(settings), context.calibration.hash)
    changed, left, harmful = context.cache.get(key, lambda: _correct(draft, settings, chosen, context))
    if left:
        draft.notes.append(f"Not corrected, since they have neither bias nor BatchNorm: {', '.join(left)}.")
    if harmful:
        draft.notes.append(
            f"Not corrected, since answers on calibration data would be further from the dense model's: "
            f"{', '.join(harmful)}."
        )
    for name, value in changed.items():
        draft.set_tensor(name, value, f"correct {key}")


def _correct(
    draft: Draft, layers: Iterable[str], settings: CorrectBiasSettings, context: Context
) -> tuple[dict[str, Tensor], tuple[str, ...], tuple[str, ...]]:
    """Return the tensors that changed, the layers that have no place for a correction, and those it would harm."""
    assert context.normalization is not None
    images, normalize = context.mixed_images(settings.images), context.normalization
    reference, changed = (prepare(module, images, normalize) for module in (draft.uncompressed(), draft.build()))
    names = [name for name in draft.layers if name in set(layers) and _has_channels(reference.get_submodule(name))]
    wanted, norms = output_statistics(reference, names, images, normalize, context.check)
    answers = outputs(reference, images, normalize, context.check) if settings.guard else None

    def distance() -> float:
        return 0.0 if answers is None else _distance(answers, outputs(changed, images, normalize, context.check))

    found: dict[str, Tensor] = {}
    left, harmful = [], []
    first = distance()
    least: float | None = first
    for name in names:
        if name not in wanted:
            continue
        last = draft.output_of(name)
        layer, norm = changed.get_submodule(last), norms.get(name)
        present, _ = output_statistics(changed, [last], images, normalize, context.check, stop=True)
        if norm is not None:
            corrected = _correct_norm(reference.get_submodule(norm), wanted[name], present[last], settings.spread)
            corrected = {f"{norm}.{part}": value for part, value in corrected.items()}
        elif getattr(layer, "bias", None) is not None and (bias := f"{last}.bias".lstrip(".")) in draft.tensors:
            shift = wanted[name].mean - present[last].mean
            corrected = {bias: layer.get_parameter("bias") + shift}
        else:
            left.append(name)
            continue
        if norm is None:
            least = distance() if least is None else least
            before = _replace(changed, corrected)
            reached = distance()
            if reached > least:
                _replace(changed, before)
                harmful.append(name)
                continue
            least = reached
        else:  # may need the corrections behind it before it pays: these are judged together at the end
            _replace(changed, corrected)
            least = None
        found |= {tensor: value.detach().clone() for tensor, value in corrected.items()}
    if found and (distance() if least is None else least) > first:
        return {}, tuple(left), tuple(name for name in names if name in wanted and name not in left)
    return found, tuple(left), tuple(harmful)


def _replace(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put new values into the module's tensors; return those they had."""
    state = module.state_dict()
    before = {name: state[name].clone() for name in tensors}
    for name, value in tensors.items():
        state[name].copy_(value.detach())
    return before


def _distance(wanted: Tensor | None, given: Tensor | None) -> float:
    """Return how far answers are from the wanted ones: the mean Kullback-Leibler divergence of their softmax."""
    if wanted is None or given is None:
        return 0.0
    logs, other = wanted.log_softmax(-1), given.log_softmax(-1)
    return float((logs.exp() * (logs - other)).sum(-1).mean())


def _correct_norm(norm: nn.Module, wanted: Statistics, present: Statistics, spread: bool) -> dict[str, Tensor]:
    """Return the running statistics with which a BatchNorm gives, in mean and spread, what ``norm`` gave before."""
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    usable = (wanted.variance > 0) & (present.variance > 0) if spread else torch.zeros_like(mean, dtype=torch.bool)
    narrowed = torch.where(usable, present.variance / wanted.variance, torch.ones_like(mean))
    # (x' - mean') / sqrt(variance') has the mean and spread that (x - mean) / sqrt(variance) had
    corrected = {"running_mean": present.mean - (wanted.mean - mean) * narrowed.sqrt()}
    if spread:
        epsilon = float(getattr(norm, "eps", 0.0))
        corrected["running_var"] = (variance + epsilon) * narrowed - epsilon
    return corrected


def _has_channels(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.Linear, *CONVOLUTIONS))


def _cost(settings: CorrectBiasSettings) -> Cost:
    return Cost.CALIBRATED


CORRECT_BIAS = Technique(
    name="correct_bias",
    summary="Shift each channel's mean output back to what it was before compression.",
    source="Nagel et al. 2019; Banner et al. 2019",
    url="https://arxiv.org/abs/1906.04721",
    settings=CorrectBiasSettings,
    apply=apply,
    cost=_cost,
    examples=("- quantize: {bits: 3}\n- correct_bias: {}",),
)
