"""Optimal Brain Surgeon by columns: prune each layer so that its outputs change least, and adjust what stays.

Frantar and Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
after Hassibi and Stork 1993, "Second order derivatives for network pruning". For the weights of one output,
``w``, and its inputs ``x``, zeroing ``w[j]`` costs least when the columns after ``j`` move by
``-w[j] / Hinv[j, j] * Hinv[j, j:]``, with ``H = Σ x xᵀ`` over the columns from ``j`` on. Which weights go is
decided a block of columns at a time, by ``w[j]² / Hinv[j, j]``.

Layers are pruned in the order in which they run, each on the inputs that those before it now give.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from workbench.calls import entering
from workbench.errors import WorkbenchError
from workbench.models.edits import QuantizeInput

from ..base import CALIBRATION
from ..context import Context
from ..draft import Draft
from .masks import tell_left
from .settings import PruneSettings

#: Columns whose weights are chosen together.
BLOCK = 128
#: Added to the diagonal of H, as a share of its mean.
DAMPING = 0.01
#: Images whose inputs are laid out at once, and weights of an output up to which H is inverted.
CHUNK = 16
LARGEST = 8192
#: Values of the images that one forward pass may hold.
BUDGET = 2**24

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def reconstruct(draft: Draft, settings: Mapping[str, PruneSettings], context: Context) -> None:
    """Prune the layers of ``settings`` and adjust their remaining weights; data must be there.

    Raises ``WorkbenchError`` for a weight that is already on a grid, which adjusting would leave.
    """
    chosen = {name: one for name, one in settings.items() if one.ratio > 0}
    for name in chosen:
        if any(weight in draft.stored for weight in draft.layers[name].weights):
            raise WorkbenchError(
                f"Pruning by obs adjusts weights, and those of '{name}' are already quantized: prune first."
            )
    suited = {name: one for name, one in chosen.items() if _suits(draft, name, one)}
    left = [name for name in chosen if name not in suited]
    if left:
        tell_left(
            draft,
            left,
            f"obs adjusts Linear layers and convolutions in one part, of up to {LARGEST:,} inputs that m divides",
        )
    if not suited or context.calibration is None or context.normalization is None:
        return
    images = min(max(one.images for one in suited.values()), max(1, BUDGET // max(1, math.prod(draft.image_shape))))
    split = context.calibration
    key = ("obs", draft.state, split.hash, CALIBRATION, images, tuple(suited.items()))
    inputs = context.normalization(context.mixed_images(images))
    found = context.cache.get(key, lambda: _run(draft, suited, inputs, context.check))
    how = hashlib.sha256(repr(key).encode()).hexdigest()
    for name, weight in found.items():
        draft.set_tensor(draft.layers[name].weight, weight, how)
    unseen = [name for name in suited if name not in found]
    if unseen:
        tell_left(draft, unseen, "they do not run on the calibration images")


def _suits(draft: Draft, name: str, settings: PruneSettings) -> bool:
    if draft.layers[name].weights != (f"{name}.weight".lstrip("."),):  # shared, or in several parts
        return False
    layer = draft.original.get_submodule(name)
    columns = draft.tensors[draft.layers[name].weight][0].numel()
    inputs = draft.tensors[draft.layers[name].weight].shape[1]
    divides = settings.granularity != "n:m" or inputs % settings.m == 0
    return isinstance(layer, LAYERS) and columns <= LARGEST and divides


def _run(
    draft: Draft, settings: Mapping[str, PruneSettings], images: Tensor, check: Callable[[], None]
) -> dict[str, Tensor]:
    """Run the model once, pruning each layer before its first call; return the new weights by layer."""
    module = draft.build(tuple(edit for edit in draft.edits if not isinstance(edit, QuantizeInput)))
    found: dict[str, Tensor] = {}

    def prune_before(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if name not in found:
                weight, (entered,) = layer.get_parameter("weight"), entering(layer, args, kwargs)
                found[name] = prune_layer(layer, weight.data, entered, settings[name], check)
                weight.data = found[name].clone()

        return hook

    for name in settings:
        module.get_submodule(name).register_forward_pre_hook(prune_before(name), with_kwargs=True)
    with torch.inference_mode(False), torch.no_grad():
        module(images.clone())
    return found


def prune_layer(
    layer: nn.Module, weight: Tensor, inputs: Tensor, settings: PruneSettings, check: Callable[[], None]
) -> Tensor:
    """Return the weight of a Linear layer or convolution, pruned for these inputs."""
    groups = int(getattr(layer, "groups", 1))
    # columns by kernel position and then by input channel, so that m channels are neighbours
    matrix = weight.flatten(2).transpose(1, 2) if weight.ndim > 2 else weight[:, None]
    rows = matrix.flatten(1).unflatten(0, (groups, -1))
    pruned = prune_columns(rows, _grams(layer, weight, inputs, groups, check), settings, check)
    flat = pruned.reshape(matrix.shape)
    return (flat.transpose(1, 2) if weight.ndim > 2 else flat).reshape(weight.shape).contiguous()


def prune_columns(rows: Tensor, grams: Tensor, settings: PruneSettings, check: Callable[[], None]) -> Tensor:
    """Return ``rows`` (groups, outputs, columns) pruned, and adjusted for inputs of Gram matrices ``grams``."""
    work, grams = rows.double().clone(), grams.double().clone()
    diagonals = grams.diagonal(dim1=1, dim2=2)
    dead = diagonals == 0
    work.masked_fill_(dead[:, None], 0.0)
    diagonals.masked_fill_(dead, 1.0)
    diagonals.add_(DAMPING * diagonals.mean(1, keepdim=True))
    # row j of this factor is row j of the inverse of H over the columns from j on, divided by its root
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(grams))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    width = BLOCK if settings.granularity == "weight" else math.lcm(settings.m, BLOCK)
    for start in range(0, work.shape[2], width):
        check()
        _prune_block(work, factor, start, min(work.shape[2], start + width), settings)
    return work.to(rows.dtype)


def _prune_block(work: Tensor, factor: Tensor, start: int, stop: int, settings: PruneSettings) -> None:
    diagonal = factor.diagonal(dim1=1, dim2=2)[:, None]
    gone = torch.zeros(*work.shape[:2], stop - start, dtype=torch.bool)
    if settings.granularity == "weight":
        costs = (work[..., start:stop] / diagonal[..., start:stop]).square().flatten()
        gone.view(-1)[costs.argsort(stable=True)[: round(settings.ratio * len(costs))]] = True
    errors = torch.zeros(gone.shape, dtype=work.dtype)
    for column in range(start, stop):
        place = column - start
        if settings.granularity == "n:m" and place % settings.m == 0:
            together = slice(column, column + settings.m)
            costs = (work[..., together] / diagonal[..., together]).square()
            smallest = costs.argsort(dim=2, stable=True)[..., : settings.m - settings.n]
            gone[..., place : place + settings.m].scatter_(2, smallest, True)
        error = torch.where(gone[..., place], work[..., column] / diagonal[..., column], 0.0)
        work[..., column:stop] -= error[..., None] * factor[:, None, column, column:stop]
        work[..., column] = torch.where(gone[..., place], 0.0, work[..., column])
        errors[..., place] = error
    work[..., stop:] -= errors @ factor[:, start:stop, stop:]


def _grams(layer: nn.Module, weight: Tensor, inputs: Tensor, groups: int, check: Callable[[], None]) -> Tensor:
    """Return ``Σ x xᵀ`` of what each output's weights multiply, one for each group ``(groups, c, c)``."""
    if weight.ndim == 2:
        flat = inputs.reshape(-1, weight.shape[1]).double()
        return (flat.T @ flat)[None]
    assert isinstance(layer, nn.modules.conv._ConvNd)
    channels, positions = weight.shape[1], math.prod(weight.shape[2:])
    columns = channels * positions
    # one kernel for each column that picks it out, by position and then by channel
    kernels = torch.eye(columns).view(channels, positions, channels, *weight.shape[2:]).transpose(0, 1)
    kernels = kernels.reshape(columns, channels, *weight.shape[2:]).repeat(groups, *[1] * (weight.ndim - 1))
    total = torch.zeros(groups, columns, columns, dtype=torch.float64)
    for chunk in inputs.split(CHUNK):
        check()
        laid: Tensor = layer._conv_forward(chunk, kernels, None)
        parts = laid.unflatten(1, (groups, columns)).flatten(3).permute(1, 2, 0, 3).flatten(2)
        total += (parts @ parts.transpose(1, 2)).double()
    return total
