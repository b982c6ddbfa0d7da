"""Recalibrate BatchNorm: take its running mean and variance anew on the compressed model.

Compression shifts what reaches a BatchNorm, while its statistics still describe the dense model.
Averaging the statistics of a few calibration batches, as in "precise BN" (Wu and Johnson 2021),
gives back most of what one-shot pruning loses.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from workbench.errors import WorkbenchError
from workbench.run.observe import recalibrate_batchnorm

from .base import CALIBRATION, Cost, Settings, Technique
from .context import Context
from .draft import Draft


class RecalibrateSettings(Settings):
    """Settings of ``recalibrate``."""

    images: int = Field(512, ge=32, le=100_000, description="Calibration images to average over, at most.")
    batch: int = Field(128, ge=16, le=1024, description="Images per batch; each batch's statistics count alike.")


def apply(draft: Draft, settings: Mapping[str, RecalibrateSettings], context: Context) -> None:
    """Replace the running statistics of every BatchNorm; the weights stay as they are."""
    if not settings:
        return
    chosen = next(iter(settings.values()))
    if context.calibration is None or context.normalization is None:
        raise WorkbenchError("Recalibrating BatchNorm needs calibration data: give the dataset as well as the model.")
    images, normalize = context.mixed_images(chosen.images), context.normalization
    key = ("batchnorm", draft.state, chosen, context.calibration.hash, CALIBRATION)
    statistics = context.cache.get(
        key, lambda: recalibrate_batchnorm(draft.build(), images, normalize, chosen.batch, context.check)
    )
    if not statistics:
        draft.notes.append("Nothing to recalibrate: the model has no BatchNorm.")
    for name, value in statistics.items():
        draft.set_tensor(name, value, f"recalibrate {key}")


def _cost(settings: RecalibrateSettings) -> Cost:
    return Cost.CALIBRATED


RECALIBRATE = Technique(
    name="recalibrate",
    summary="Take BatchNorm's running statistics anew on the compressed model.",
    source="Wu and Johnson 2021, Rethinking 'Batch' in BatchNorm",
    url="https://arxiv.org/abs/2105.07576",
    settings=RecalibrateSettings,
    apply=apply,
    cost=_cost,
    examples=("- prune: {ratio: 0.6}\n- recalibrate: {}",),
)
