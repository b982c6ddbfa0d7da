"""What enters a layer, as the columns that its weight matrix multiplies, and their first and second moments.

A convolution is a matrix product over patches (im2col), so that the squared error that changed weights
make in a layer's output, ``(W' - W) E[x xᵀ] (W' - W)ᵀ``, needs only the moments of the patches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from workbench.calls import entering, runs_as

from .layout import quick_order

Normalize = Callable[[Tensor], Tensor]

BATCH = 32
#: Patches of a layer that are looked at, about: beyond it they are taken at even distances.
PATCHES = 24_576
#: Images over which those are spread, where there are as many; a layer with few patches an image takes more.
FEWEST = 256


@dataclass(frozen=True)
class Moments:
    """Moments of a layer's inputs in a reference, x, and in another version of the model, y.

    ``second`` is E[y yᵀ] and ``cross`` E[x yᵀ], ``(groups, columns, columns)``; ``mean_reference`` E[x] and
    ``mean`` E[y], ``(groups, columns)``.
    """

    second: Tensor
    cross: Tensor
    mean_reference: Tensor
    mean: Tensor


def has_columns(layer: nn.Module) -> bool:
    """Whether the layer is a matrix product over its inputs that ``columns`` can lay out."""
    return runs_as(layer, nn.Linear, nn.Conv1d, nn.Conv2d)


def columns(layer: nn.Module, values: Tensor) -> Tensor:
    """Return the columns that the layer's weights multiply in ``values``, ``(groups, columns, patches)``.

    Their order is that of the layer's weight flattened from its second axis on.
    """
    if isinstance(layer, nn.Linear):
        rows: Tensor = values.reshape(-1, values.shape[-1])
        return rows.T.unsqueeze(0)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    values = F.pad(values, layer._reversed_padding_repeated_twice, mode=mode)
    kernel, dilation, stride = tuple(layer.kernel_size), tuple(layer.dilation), tuple(layer.stride)
    if isinstance(layer, nn.Conv1d):
        values, kernel, dilation, stride = values.unsqueeze(2), (1, *kernel), (1, *dilation), (1, *stride)
    patches = F.unfold(values, kernel, dilation, 0, stride)
    grouped = patches.unflatten(1, (layer.groups, -1))
    laid_out: Tensor = grouped.permute(1, 2, 0, 3).flatten(2)
    return laid_out


def input_moments(
    reference: nn.Module,
    changed: nn.Module,
    layer: str,
    images: Tensor,
    normalize: Normalize,
    check: Callable[[], None],
) -> Moments | None:
    """Return the moments of what enters ``layer`` in two versions of one model; None where it is never called.

    Both run only as far as that layer.
    """
    sums: list[Tensor] = []
    count = 0
    stride = 0
    for batch in images.split(BATCH):
        check()
        entered = [_entering(module, layer, normalize(batch)) for module in (reference, changed)]
        if not entered[0]:
            return None
        for before, after in zip(*entered, strict=True):
            stride = stride or max(1, before.shape[2] * -(-min(len(images), FEWEST) // BATCH) // PATCHES)
            before, after = before[:, :, ::stride], after[:, :, ::stride]
            found = [after @ after.mT, before @ after.mT, before.sum(2), after.sum(2)]
            sums = [total + part for total, part in zip(sums, found, strict=True)] if sums else found
            count += before.shape[2]
        if count >= PATCHES:
            break
    return Moments(*(total / max(1, count) for total in sums))


class _Reached(Exception):
    """The layer has been called; what comes after it is not needed."""


@torch.inference_mode()
def _entering(module: nn.Module, name: str, images: Tensor) -> list[Tensor]:
    layer = module.get_submodule(name)
    found: list[Tensor] = []

    def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found.append(columns(layer, entering(layer, args, kwargs)[0]))
        raise _Reached

    handle = layer.register_forward_pre_hook(record, with_kwargs=True)
    with contextlib.suppress(_Reached):
        module(images)
    handle.remove()
    return found


@torch.inference_mode()
def outputs(module: nn.Module, images: Tensor, normalize: Normalize, check: Callable[[], None]) -> Tensor | None:
    """Return what a model gives for ``images``, ``(N, …)``; None where that is not one tensor an image."""
    found = []
    for batch in images.split(BATCH):
        check()
        given = module(normalize(batch))
        if not isinstance(given, Tensor) or given.ndim < 2 or len(given) != len(batch):
            return None
        found.append(given.float())
    return torch.cat(found)


def prepare(module: nn.Module, images: Tensor, normalize: Normalize) -> nn.Module:
    """Put a module in the memory order that runs ``images`` fastest."""
    return quick_order(module.eval(), normalize(images[:2]))


@dataclass(frozen=True)
class Statistics:
    """Mean and variance of each channel that a layer gives, ``(channels,)``."""

    mean: Tensor
    variance: Tensor


def output_statistics(
    module: nn.Module,
    layers: list[str],
    images: Tensor,
    normalize: Normalize,
    check: Callable[[], None],
    stop: bool = False,
) -> tuple[dict[str, Statistics], dict[str, str]]:
    """Return mean and variance of each channel that ``layers`` give, and the BatchNorm that reads it directly, if any.

    Layers that are never called are left out. ``stop`` runs only as far as the first of them.
    """
    sums: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    norms: dict[str, str] = {}
    given: dict[int, tuple[str, Tensor]] = {}  # kept alive, so that an id names one tensor

    def record(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(layer: nn.Module, _: object, output: Tensor) -> None:
            rows = output.flatten(0, -2) if isinstance(layer, nn.Linear) else output.movedim(1, -1).flatten(0, -2)
            rows = rows.double()  # a variance is a small difference of large numbers
            sums[name] = sums.get(name, torch.zeros(1)) + rows.sum(0)
            squares[name] = squares.get(name, torch.zeros(1)) + rows.square().sum(0)
            counts[name] = counts.get(name, 0) + len(rows)
            if output.ndim == 2 or not isinstance(layer, nn.Linear):  # a BatchNorm normalises the rows of others
                given[id(output)] = name, output
            if stop:
                raise _Reached

        return hook

    def read(name: str) -> Callable[..., None]:
        def hook(norm: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            (entered,) = entering(norm, args, kwargs)
            if id(entered) in given:
                norms[given[id(entered)][0]] = name

        return hook

    handles = [module.get_submodule(name).register_forward_hook(record(name)) for name in layers]
    handles += [
        part.register_forward_pre_hook(read(name), with_kwargs=True)
        for name, part in module.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.track_running_stats
    ]
    try:
        with torch.no_grad():
            for batch in images.split(BATCH):
                check()
                given.clear()
                with contextlib.suppress(_Reached):
                    module(normalize(batch))
    finally:
        for handle in handles:
            handle.remove()
    return {name: _statistics(total, squares[name], counts[name]) for name, total in sums.items()}, norms


def _statistics(total: Tensor, squares: Tensor, count: int) -> Statistics:
    mean = total / count
    variance = (squares / count - mean.square()).clamp_min(0)
    return Statistics(mean.float(), variance.float())
