"""A new last layer: the same network, telling other classes apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn

from .model import Model, ModelError, prepare

HEADS = (nn.Linear, nn.Conv2d)


def with_classes(model: Model, classes: int) -> Model:
    """Return ``model`` with a new last layer for ``classes`` classes, its weights drawn anew, the same each time.

    The last layer is the Linear or convolution that runs last and has an output for each of the model's classes.

    Raises:
        ModelError: there is no such layer, or the size of the model's images is not known.
    """
    if model.input_shape is None:
        raise ModelError(f"The size of {model.name}'s images is not known: load it with input_shape=(C, H, W).")
    module = prepare(model.module)[0]
    name = last_layer(module, model.input_shape)
    if name is None:
        raise ModelError(
            f"{model.name} has no last layer that could be replaced: its answers come from no Linear or convolution."
        )
    _replace(module, name, classes)
    found: Tensor = _answers(module, model.input_shape)
    if tuple(found.shape) != (1, classes):
        raise ModelError(f"{model.name} does not work with a last layer '{name}' of {classes} classes.")
    return dataclasses.replace(model, module=prepare(module)[0], card={}, classes=())


def last_layer(module: nn.Module, shape: tuple[int, ...]) -> str | None:
    """Return the name of the layer that gives the answers, for images of ``shape`` ``(C, H, W)``."""
    ran: list[str] = []

    def noter(name: str) -> Any:
        return lambda *_: ran.append(name)

    handles = [
        part.register_forward_hook(noter(name)) for name, part in module.named_modules() if isinstance(part, HEADS)
    ]
    classes = _answers(module, shape).shape[-1]
    for handle in handles:
        handle.remove()
    return next((name for name in reversed(ran) if _outputs(module.get_submodule(name)) == classes), None)


def _replace(module: nn.Module, name: str, classes: int) -> None:
    old = module.get_submodule(name)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        new: nn.Module
        if isinstance(old, nn.Linear):
            new = nn.Linear(old.in_features, classes, old.bias is not None)
        else:
            assert isinstance(old, nn.Conv2d)
            new = nn.Conv2d(
                old.in_channels, classes, old.kernel_size, old.stride, old.padding, old.dilation, 1,  # type: ignore[arg-type]
                old.bias is not None,
            )  # fmt: skip
    module.set_submodule(name, new)


def _outputs(layer: nn.Module) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else int(layer.out_channels)  # type: ignore[arg-type]


@torch.inference_mode()
def _answers(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    found: Tensor = module(torch.zeros(1, *shape))
    return found
