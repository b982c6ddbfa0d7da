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

#: What torch calls in a state dict what a module's ``get_extra_state`` gives.
_EXTRA = "_extra_state"


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
    _refuse(module)
    try:
        copied = copy.deepcopy(module, _detached(module))
    except Exception as error:
        raise ModelError(
            f"{type(module).__name__} cannot be copied ({_first_line(error)}), and the workbench "
            "changes only copies: give it a module that copy.deepcopy accepts."
        ) from error
    notes = [*_bake(copied), *_widen(copied)]
    copied.cpu().eval()
    _hide_extra_state(copied)
    for tensor in (*copied.parameters(), *copied.buffers()):
        # an expanded tensor has one value in many places, which can be neither compared nor written to
        if any(step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)):
            tensor.data = tensor.detach().clone(memory_format=torch.contiguous_format)
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return copied, tuple(notes)


def _refuse(module: nn.Module) -> None:
    """Raise ``ModelError`` for what holds no weights that could be read and changed."""
    name = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(f"{name} is a TorchScript program, which cannot be changed: give the module it was made from.")
    homes = {where: type(part).__module__ for where, part in module.named_modules()}
    quantized = [where for where, home in homes.items() if home.startswith("torch.") and ".quantized" in home]
    if quantized:
        raise ModelError(
            f"{name} is quantized already in {listed([repr(where) for where in quantized])}: give it as it was before."
        )
    for where, tensor in (*module.named_parameters(), *module.named_buffers()):
        if nn.parameter.is_lazy(tensor):
            raise ModelError(f"'{where}' of {name} has no shape yet: run the model on a batch of images first.")
        if tensor.is_meta:
            raise ModelError(f"'{where}' of {name} is on the meta device and has no values: load weights first.")
        if tensor.layout != torch.strided or tensor.is_quantized:
            kind = "quantized" if tensor.is_quantized else "sparse"
            raise ModelError(
                f"'{where}' of {name} is a {kind} tensor, and the workbench reads dense ones: make it dense."
            )


def _hide_extra_state(module: nn.Module) -> None:
    """Keep what parts hold beside tensors (``get_extra_state``) out of state dicts; a copy of them has it anyhow."""
    for part in module.modules():
        if type(part).get_extra_state is not nn.Module.get_extra_state:
            part._register_state_dict_hook(_without_extra_state)
            part.register_load_state_dict_post_hook(_not_missed)


def _without_extra_state(_: nn.Module, state: dict[str, Any], prefix: str, __: Any) -> None:
    if not isinstance(state.get(f"{prefix}{_EXTRA}"), torch.Tensor):
        state.pop(f"{prefix}{_EXTRA}", None)


def _not_missed(_: nn.Module, keys: Any) -> None:
    keys.missing_keys[:] = [name for name in keys.missing_keys if name.rpartition(".")[2] != _EXTRA]


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
