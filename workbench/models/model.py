"""The Model: a network ready to be compressed, and what is known about it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm

from ..data.dataset import Normalization
from ..errors import WorkbenchError


class ModelError(WorkbenchError):
    """A model that cannot be loaded or used, in one sentence."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network in eval mode on the CPU in float32, its name, and where it came from.

    ``module`` belongs to the workbench alone: it was copied from what the person gave, and is never
    changed afterwards, so that every compressed model starts from the same weights. ``origin`` is
    ``zoo``, ``file``, ``onnx``, ``torchvision``, ``timm`` or ``module``. ``input_shape`` is one image's
    ``(C, H, W)`` where it is known; ``normalization``, if set, is used instead of the dataset's.
    ``card`` holds what a publisher said (accuracy, data, recipe); ``notes`` what loading had to do. ``classes`` are
    the names of the outputs, in their order, where they are known.
    """

    name: str
    module: nn.Module
    origin: str
    input_shape: tuple[int, ...] | None = None
    normalization: Normalization | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()


def prepare(module: nn.Module) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a private copy of ``module`` to work on, and notes on what differs from the original.

    The copy is in eval mode, on the CPU, in float32, without gradients, and its reparametrized weights
    (``weight_norm``, ``prune`` masks and the like) are plain parameters. The original is left alone,
    its training flag included. Raises ``ModelError`` where a copy cannot be made.
    """
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        module = module.module
    try:
        copied = copy.deepcopy(module, _detached(module))
    except Exception as error:
        raise ModelError(
            f"{type(module).__name__} cannot be copied ({_first_line(error)}), and the workbench "
            "changes only copies: give it a module that copy.deepcopy accepts."
        ) from error
    notes = [*_bake(copied), *_widen(copied)]
    copied.cpu().eval()
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return copied, tuple(notes)


def _detached(module: nn.Module) -> dict[int, Any]:
    """Return a memo for ``deepcopy`` with the tensors it refuses: those that are computed from others."""
    return {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }


def _bake(module: nn.Module) -> list[str]:
    """Turn reparametrized weights into plain parameters with the same values."""
    baked = []
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        if parametrize.is_parametrized(part):
            baked += [f"{name}.{tensor}".lstrip(".") for tensor in _unparametrize(part)]
        for hook in list(part._forward_pre_hooks.values()):
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(part, hook._tensor_name)
                baked.append(f"{name}.{hook._tensor_name}".lstrip("."))
        for remove in (remove_weight_norm, remove_spectral_norm):
            try:
                remove(part)
                baked.append(f"{name}.weight".lstrip("."))
            except ValueError:  # has none: the only way these two have to say so
                pass
    if not baked:
        return []
    return [f"Reparametrized weights became plain parameters of the same values: {listed(baked)}."]


def _unparametrize(part: nn.Module) -> list[str]:
    """Do what ``remove_parametrizations`` does, which would take the original's property away with the
    copy's: a copy shares the class that was made for its original.
    """
    parametrized = [name for name, _ in part.parametrizations.named_children()]  # type: ignore[union-attr]
    values = {tensor: getattr(part, tensor).detach().clone() for tensor in parametrized}
    part.__class__ = type(part).__bases__[0]
    del part.parametrizations
    for tensor, value in values.items():
        part.register_parameter(tensor, nn.Parameter(value))
    return list(values)


def _widen(module: nn.Module) -> list[str]:
    """Convert half and double parameters and buffers to float32."""
    tensors = [*module.parameters(), *module.buffers()]
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.is_floating_point()}
    odd = sorted(kinds - {"float32"})
    if not odd:
        return []
    module.float()
    return [f"Weights in {listed(odd)} were converted to float32, the baseline of every comparison."]


def listed(names: list[str] | tuple[str, ...], limit: int = 4) -> str:
    """Return ``'a', 'b' and 3 more``-like text of at most ``limit`` names."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
