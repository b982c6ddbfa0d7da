"""What the calibration data tell of the weights, for the criteria that look at data.

Gathered once a step, on the model as the step finds it, and kept under the hash of that model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.calls import entering
from workbench.errors import WorkbenchError
from workbench.models.edits import QuantizeInput
from workbench.models.layers import CONVOLUTIONS

from ..context import Context
from ..draft import Draft
from .settings import PruneSettings

BATCH = 32
#: Layers that multiply each weight by what enters them.
LAYERS_WITH_INPUTS: tuple[Any, ...] = (nn.Linear, *CONVOLUTIONS)

#: Normalised images and their labels, a batch at a time.
Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]
Observe = Callable[[nn.Module, tuple[str, ...], Batches], dict[str, Tensor]]


@dataclass(frozen=True)
class Evidence:
    """Statistics by the name of a weight, each of the weight's shape; ``key`` tells what they rest on.

    ``gradients``: mean over the images of the loss's gradient; ``squares``: mean of its square;
    ``norms``: root of the sum of squares of the inputs that each weight multiplies. ``activity`` goes by
    layer, ``(2, inputs)``: the mean magnitude of each channel that enters it, and its share of zeros.
    """

    key: str = ""
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    squares: Mapping[str, Tensor] = field(default_factory=dict)
    norms: Mapping[str, Tensor] = field(default_factory=dict)
    activity: Mapping[str, Tensor] = field(default_factory=dict)


def gather(draft: Draft, settings: Mapping[str, PruneSettings], context: Context) -> Evidence:
    """Return the statistics that the criteria of ``settings`` (by layer) ask for.

    Raises ``WorkbenchError`` where they need data and there is none.
    """
    asking = {name: chosen for name, chosen in settings.items() if chosen.needs_data and chosen.criterion != "drop"}
    if not asking:
        return Evidence()
    if context.calibration is None or context.normalization is None:
        criterion = next(iter(asking.values())).criterion
        raise WorkbenchError(f"Pruning by {criterion} needs calibration data: give the dataset as well as the model.")
    for chosen in asking.values():
        if chosen.criterion in ("taylor", "fisher"):
            context.require_labels(f"Pruning by {chosen.criterion}")
    split, normalize = context.calibration, context.normalization
    count = min(len(split), max(chosen.images for chosen in asking.values()))
    key = f"{draft.state} {split.hash} mixed {count}"

    images, labels = context.mixed(count)

    def batches(size: int) -> Iterable[tuple[Tensor, Tensor]]:
        for start in range(0, count, size):
            context.check()
            stop = min(count, start + size)
            yield normalize(images[start:stop]), labels[start:stop]

    def build() -> nn.Module:
        # rounding an input has no gradient, and hides what a weight is multiplied by
        return draft.build(tuple(edit for edit in draft.edits if not isinstance(edit, QuantizeInput)))

    def kept(kind: str, names: tuple[str, ...], compute: Observe) -> dict[str, Tensor]:
        return context.cache.get((kind, key, names), lambda: compute(build(), names, batches)) if names else {}

    def weights(criterion: str) -> tuple[str, ...]:
        return _weights_of(draft, asking, criterion)

    watched = tuple(draft.layers) if any(one.criterion in ("activation", "apoz") for one in asking.values()) else ()
    return Evidence(
        key,
        kept("gradients", weights("taylor"), _gradients),
        kept("squares", weights("fisher"), _squares),
        kept("norms", weights("wanda"), _norms),
        kept("activity", watched, _activity),
    )


def _weights_of(draft: Draft, settings: Mapping[str, PruneSettings], criterion: str) -> tuple[str, ...]:
    names = (name for name, chosen in settings.items() if chosen.criterion == criterion)
    return tuple(dict.fromkeys(weight for name in names for weight in draft.layers[name].weights))


def _gradients(module: nn.Module, weights: tuple[str, ...], batches: Batches) -> dict[str, Tensor]:
    """Return the gradient of the mean cross-entropy."""
    total, count = _zeros(module, weights), 0
    for images, labels in batches(BATCH):
        count += len(labels)
        for weight, gradient in _backward(module, weights, images, labels).items():
            total[weight] += gradient
    return {weight: gradient / count for weight, gradient in total.items()}


def _squares(module: nn.Module, weights: tuple[str, ...], batches: Batches) -> dict[str, Tensor]:
    """Return the diagonal of the empirical Fisher information: each image's own gradient, squared."""
    total, count = _zeros(module, weights), 0
    for images, labels in batches(1):
        count += len(labels)
        for weight, gradient in _backward(module, weights, images, labels).items():
            total[weight] += gradient.square()
    return {weight: square / count for weight, square in total.items()}


def _backward(module: nn.Module, weights: tuple[str, ...], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return the gradient of the summed cross-entropy of a batch; weights it does not reach are left out.

    Raises ``WorkbenchError`` where the model's (first) output is no logits of these labels.
    """
    with torch.inference_mode(False), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a model that branches on its values, which carry gradients
        parameters = [module.get_parameter(weight).requires_grad_(True) for weight in weights]
        output = logits_of(module(images.clone()), labels)
        if not output.requires_grad:
            return {}
        loss = F.cross_entropy(output, labels, reduction="sum")
        found: tuple[Tensor | None, ...] = torch.autograd.grad(loss, parameters, allow_unused=True)
    pairs = zip(weights, found, strict=True)
    return {weight: gradient for weight, gradient in pairs if gradient is not None}


def logits_of(output: Any, labels: Tensor) -> Tensor:
    """Return the (first) logits in a model's output; raise ``WorkbenchError`` where they are none of these labels."""
    while isinstance(output, dict | tuple | list) and output:
        output = next(iter(output.values() if isinstance(output, dict) else output))
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] <= int(labels.max()):
        raise WorkbenchError(
            "Pruning by the loss needs a classifier of the dataset's classes: choose another criterion, such as "
            "magnitude or random."
        )
    return output


def _zeros(module: nn.Module, weights: tuple[str, ...]) -> dict[str, Tensor]:
    return {weight: torch.zeros_like(module.get_parameter(weight)) for weight in weights}


def _norms(module: nn.Module, weights: tuple[str, ...], batches: Batches) -> dict[str, Tensor]:
    """Return the input norms of Linear layers and convolutions; other layers are left out."""
    owners = {weight: module.get_submodule(weight.rpartition(".")[0]) for weight in weights}
    sums = _watch(module, owners, batches, _sum_of_squares)
    return {weight: total.sqrt().expand_as(module.get_parameter(weight)) for weight, total in sums.items()}


def _activity(module: nn.Module, layers: tuple[str, ...], batches: Batches) -> dict[str, Tensor]:
    """Return mean magnitude and share of zeros of what enters Linear layers and convolutions, by channel."""

    def measure(layer: nn.Module, inputs: Tensor) -> Tensor:
        axis = inputs.ndim - 1 if isinstance(layer, nn.Linear) else 1
        channels = inputs.movedim(axis, 0).flatten(1)
        return torch.stack([channels.abs().sum(1), (channels == 0).sum(1), torch.ones_like(channels).sum(1)])

    owners = {layer: module.get_submodule(layer) for layer in layers}
    return {name: sums[:2] / sums[2] for name, sums in _watch(module, owners, batches, measure).items()}


def _watch(
    module: nn.Module,
    layers: Mapping[str, nn.Module],
    batches: Batches,
    measure: Callable[[nn.Module, Tensor], Tensor],
) -> dict[str, Tensor]:
    """Return ``measure`` of what enters each Linear layer and convolution, summed over the images."""
    sums: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            sums[name] = sums.get(name, torch.zeros(())) + measure(layer, entering(layer, args, kwargs)[0].detach())

        return hook

    handles = [
        layer.register_forward_pre_hook(watch(name), with_kwargs=True)
        for name, layer in layers.items()
        if isinstance(layer, LAYERS_WITH_INPUTS)
    ]
    with torch.inference_mode(False), torch.no_grad():
        for images, _ in batches(BATCH):
            module(images.clone())
    for handle in handles:
        handle.remove()
    return sums


def _sum_of_squares(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return the sum of the squares of what each weight multiplies, broadcastable to the weight's shape."""
    squares = inputs.square()
    if isinstance(layer, nn.Linear):
        return squares.reshape(-1, layer.in_features).sum(0)
    assert isinstance(layer, nn.modules.conv._ConvNd)
    # the gradient of a convolution's summed output by its kernel is the sum of what the kernel is laid over
    weight = layer.weight
    outputs = 1 if layer.transposed else layer.groups
    shape = (len(weight), 1, *weight.shape[2:]) if layer.transposed else (outputs, *weight.shape[1:])
    with torch.enable_grad():
        kernel = torch.zeros(shape, requires_grad=True)
        (found,) = torch.autograd.grad(_convolve(layer, squares, kernel).sum(), [kernel])
    return found if layer.transposed else found.repeat_interleave(len(weight) // layer.groups, 0)


def _convolve(layer: nn.modules.conv._ConvNd, inputs: Tensor, kernel: Tensor) -> Tensor:
    if not layer.transposed:
        result: Tensor = layer._conv_forward(inputs, kernel, None)
        return result
    transposed: Any = {3: F.conv_transpose1d, 4: F.conv_transpose2d, 5: F.conv_transpose3d}[kernel.ndim]
    options = (layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)
    spread: Tensor = transposed(inputs, kernel, None, *options)
    return spread
