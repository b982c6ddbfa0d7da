"""Changes of structure as plain data, and how they act on a module.

An edit names layers and channels, never code, so that it can be stored in an archive and replayed on
a fresh copy of the architecture. ``Slice`` keeps some of the channels of one layer; a pruned channel
is several slices, one for every layer that the dependency graph couples. ``QuantizeInput`` rounds
what enters a layer to a uniform grid, ``BinarizeInput`` to two values. ``Factorize`` (see ``factors``)
puts a chain of smaller layers in the place of one; ``Remove`` and ``Shorten`` (see ``removal``) take
whole parts out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from math import isfinite, pi, sqrt
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from workbench.calls import changed
from workbench.counting import counted
from workbench.errors import WorkbenchError

from .factors import Factorize, Scheme, replace_layer
from .fewer_heads import keep_heads, takes_fewer_heads
from .removal import Remove, Shorten, remove_module, shorten

Side = Literal["in", "out"]


@dataclass(frozen=True)
class Slice:
    """Keep the channels ``keep`` on one side of ``layer``; of an attention, rows of its input projection."""

    layer: str
    side: Side
    keep: tuple[int, ...]


@dataclass(frozen=True)
class QuantizeInput:
    """Round the input of ``layer`` (of attention: query, key and value) to a grid of ``2**bits`` values.

    ``(clamp(round(x / scale) + zero_point, 0, 2**bits - 1) - zero_point) * scale``
    """

    layer: str
    bits: int
    scale: float
    zero_point: int


@dataclass(frozen=True)
class QuantizeInputByBatch(QuantizeInput):
    """Round the input of ``layer`` to a grid that spans each batch's own minimum and maximum."""

    scale: float = 0.0
    zero_point: int = 0


@dataclass(frozen=True)
class BinarizeInput(QuantizeInput):
    """Give the input of ``layer`` two values: ``centre + scale`` above ``centre``, ``centre - scale`` elsewhere.

    That is ``scale * sign(x)`` of what is centred first (Rastegari et al. 2016, "XNOR-Net", section 3.2, where a
    BatchNorm does it). The gradient is passed straight through within ``REACH`` scales of the centre: one standard
    deviation of a normal input, which is what the paper's bounds of ±1 are behind its BatchNorm.
    """

    bits: int = 1
    scale: float = 1.0
    zero_point: int = 0
    centre: float = 0.0


#: Standard deviations of a normal variable in its mean magnitude.
REACH = sqrt(pi / 2)

Edit: TypeAlias = Slice | QuantizeInput | Factorize | Remove | Shorten
_KINDS: dict[str, type[Edit]] = {
    "slice": Slice,
    "quantize_input": QuantizeInput,
    "quantize_input_by_batch": QuantizeInputByBatch,
    "binarize_input": BinarizeInput,
    "factorize": Factorize,
    "remove": Remove,
    "shorten": Shorten,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


@dataclass(frozen=True)
class Channels:
    """Where a module keeps the channels of one side: tensor -> axis, and the attributes that count them."""

    axes: Mapping[str, int]
    attributes: tuple[str, ...]


def channels_of(module: nn.Module, side: Side) -> Channels | None:
    """Return where ``module`` keeps its channels on ``side``, or None where slicing is not known."""
    if isinstance(module, nn.modules.conv._ConvNd):
        return _channels_of_convolution(module, side)
    if isinstance(module, nn.Linear):
        if side == "out":
            return Channels({"weight": 0, "bias": 0}, ("out_features",))
        return Channels({"weight": 1}, ("in_features",))
    if isinstance(module, nn.modules.batchnorm._BatchNorm | nn.modules.instancenorm._InstanceNorm):
        tensors = ("weight", "bias", "running_mean", "running_var")
        return Channels(dict.fromkeys(tensors, 0), ("num_features",))
    if isinstance(module, nn.LSTM | nn.GRU | nn.RNN) and side == "in":
        return Channels({"weight_ih_l0": 1, "weight_ih_l0_reverse": 1}, ("input_size",))
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return Channels({"weight": 0}, ("num_parameters",))
    return None


def _channels_of_convolution(module: nn.modules.conv._ConvNd, side: Side) -> Channels | None:
    if module.groups == module.in_channels == module.out_channels > 1 and not module.transposed:
        return Channels({"weight": 0, "bias": 0}, ("in_channels", "out_channels", "groups"))
    if module.groups > 1:
        return _channels_of_groups(module, side)
    out = 1 if module.transposed else 0
    if side == "out":
        return Channels({"weight": out, "bias": 0}, ("out_channels",))
    return Channels({"weight": 1 - out}, ("in_channels",))


def _channels_of_groups(module: nn.modules.conv._ConvNd, side: Side) -> Channels | None:
    """Channels of a grouped convolution: every group must keep the same ones, which its slices see to."""
    if module.transposed or module.groups in (module.in_channels, module.out_channels):
        return None
    if side == "out":
        return Channels({"weight": 0, "bias": 0}, ("out_channels",))
    return Channels({"weight": 1}, ("in_channels",))


def _along(tensor: Tensor, axis: int, keep: Tensor) -> Tensor:
    """Return ``keep`` as places along ``axis``: a grouped convolution's weight counts one group's inputs."""
    return keep[keep < tensor.shape[axis]]


def apply_edits(module: nn.Module, edits: Iterable[Edit]) -> None:
    """Carry out ``edits`` on ``module`` in place; the tensors' remaining values are kept."""
    for edit in edits:
        layer = module.get_submodule(edit.layer)
        if isinstance(edit, Slice):
            _slice_module(layer, edit)
        elif isinstance(edit, Factorize):
            replace_layer(module, edit)
        elif isinstance(edit, Remove):
            remove_module(module, edit)
        elif isinstance(edit, Shorten):
            shorten(module, edit)
        else:
            layer.register_forward_pre_hook(InputQuantizer(edit), with_kwargs=True)


def slice_tensors(
    tensors: MutableMapping[str, Tensor], layer: nn.Module, edit: Slice, keep: Tensor
) -> list[tuple[str, int, Tensor]]:
    """Slice the entries of ``layer`` in a state dict in place; return names, axes and the places kept.

    ``keep`` is ``edit.keep`` as a tensor.
    """
    if takes_fewer_heads(layer):
        return _slice_heads(tensors, edit.layer, keep)
    channels = channels_of(layer, edit.side)
    if channels is None:
        raise WorkbenchError(f"The channels of layer '{edit.layer}' ({type(layer).__name__}) cannot be sliced.")
    changed, most, prefix = [], max(edit.keep, default=0), f"{edit.layer}." if edit.layer else ""
    for tensor, axis in channels.axes.items():
        name = prefix + tensor
        if name in tensors:
            before = tensors[name]
            places = keep if most < before.shape[axis] else _along(before, axis, keep)
            tensors[name] = before.index_select(axis, places)
            changed.append((name, axis, places))
    return changed


def _slice_heads(tensors: MutableMapping[str, Tensor], layer: str, keep: Tensor) -> list[tuple[str, int, Tensor]]:
    """Slice an attention's tensors; ``keep`` counts the rows of its input projection."""
    prefix = f"{layer}." if layer else ""
    columns = keep[keep < len(tensors[f"{prefix}in_proj_weight"]) // 3]
    changed = [
        (f"{prefix}{name}", axis, places)
        for name, axis, places in (
            ("in_proj_weight", 0, keep), ("in_proj_bias", 0, keep), ("out_proj.weight", 1, columns),
        )
        if f"{prefix}{name}" in tensors
    ]  # fmt: skip
    for name, axis, places in changed:
        tensors[name] = tensors[name].index_select(axis, places)
    return changed


class InputQuantizer:
    """Forward pre-hook that simulates a quantized input; exports and copies with its module."""

    def __init__(self, edit: QuantizeInput) -> None:
        self.edit = edit

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return changed(module, args, kwargs, self._round)

    def _round(self, values: Tensor) -> Tensor:
        edit = self.edit
        if isinstance(edit, QuantizeInputByBatch):
            return _round_to_own_range(values, edit.bits)
        if isinstance(edit, BinarizeInput):
            return _two_values(values, edit)
        codes = torch.round(values / edit.scale).add_(edit.zero_point).clamp_(0, 2**edit.bits - 1)
        rounded = codes.sub_(edit.zero_point).mul_(edit.scale)
        if not (values.requires_grad and torch.is_grad_enabled()):
            return rounded
        # straight through, and no gradient from beyond the grid's ends
        low, high = -edit.zero_point * edit.scale, (2**edit.bits - 1 - edit.zero_point) * edit.scale
        within = values.clamp(low, high)
        return within + (rounded - within).detach()


def _round_to_own_range(values: Tensor, bits: int) -> Tensor:
    """Round to the affine grid of the values' own range, zero included; indices stay as they are."""
    if not values.is_floating_point():
        return values
    if values.requires_grad and torch.is_grad_enabled():
        return values + (_round_to_own_range(values.detach(), bits) - values).detach()
    low, high = values.amin().clamp_max(0), values.amax().clamp_min(0)
    scale = ((high - low) / (2**bits - 1)).clamp_min(torch.finfo(torch.float32).eps)
    zero_point = torch.round(-low / scale)
    codes = torch.round(values / scale).add_(zero_point).clamp_(0, 2**bits - 1)
    return codes.sub_(zero_point).mul_(scale)


def _two_values(values: Tensor, edit: BinarizeInput) -> Tensor:
    """Round to the two values of ``edit``; indices stay as they are."""
    if not values.is_floating_point():
        return values
    centre, scale = edit.centre, edit.scale
    rounded = torch.where(values > centre, centre + scale, centre - scale).to(values.dtype)
    if not (values.requires_grad and torch.is_grad_enabled()):
        return rounded
    within = values.clamp(centre - REACH * scale, centre + REACH * scale)
    return within + (rounded - within).detach()


def edit_to_json(edit: Edit) -> dict[str, Any]:
    """Return plain data for the archive."""
    return {"kind": _NAMES[type(edit)], **vars(edit)}


def edit_from_json(data: Mapping[str, Any]) -> Edit:
    """Return the edit that ``edit_to_json`` described; unknown kinds raise ``WorkbenchError``."""
    if not isinstance(data, Mapping):
        raise WorkbenchError("The file holds a damaged edit, which is no mapping.")
    fields = dict(data)
    kind = fields.pop("kind", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        raise WorkbenchError(f"The file holds an edit of unknown kind '{kind}'; a newer version may read it.")
    try:
        for name in {"keep", "ranks"} & set(fields):
            fields[name] = tuple(int(index) for index in fields[name])
        edit = _KINDS[kind](**fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise WorkbenchError(f"The file holds a damaged edit of kind '{kind}'.") from error
    if not _is_sound(edit):
        raise WorkbenchError(f"The file holds a damaged edit of kind '{kind}'.")
    return edit


def _is_sound(edit: Any) -> bool:
    """Whether the fields of an edit from a file are of their types, and in bounds where those are the same for all."""
    if not isinstance(edit.layer, str):
        return False
    if isinstance(edit, Slice):
        return edit.side in ("in", "out") and min(edit.keep, default=0) >= 0
    if isinstance(edit, Factorize):
        return edit.scheme in get_args(Scheme) and min(edit.ranks, default=0) > 0
    if isinstance(edit, QuantizeInput):
        numbers = (edit.scale, edit.zero_point, getattr(edit, "centre", 0.0))
        known = all(isinstance(number, int | float) and isfinite(number) for number in numbers)
        return known and type(edit.bits) is int and 1 <= edit.bits <= 32
    return True


def _slice_module(layer: nn.Module, edit: Slice) -> None:
    if isinstance(layer, nn.MultiheadAttention) and takes_fewer_heads(layer):
        _refuse_more(edit, 3 * layer.embed_dim)
        keep_heads(layer, torch.tensor(edit.keep, dtype=torch.long))
        return
    channels = channels_of(layer, edit.side)
    if channels is None:
        raise WorkbenchError(f"The channels of layer '{edit.layer}' ({type(layer).__name__}) cannot be sliced.")
    _refuse_more(edit, max(getattr(layer, attribute) for attribute in channels.attributes))
    keep = torch.tensor(edit.keep, dtype=torch.long)
    for name, axis in channels.axes.items():
        tensor = getattr(layer, name, None)
        if tensor is None:
            continue
        sliced = tensor.detach().index_select(axis, _along(tensor, axis, keep))
        if isinstance(tensor, nn.Parameter):
            setattr(layer, name, nn.Parameter(sliced, requires_grad=tensor.requires_grad))
        else:
            layer.register_buffer(name, sliced)
    for attribute in channels.attributes:
        setattr(layer, attribute, len(edit.keep))


def _refuse_more(edit: Slice, channels: int) -> None:
    """Raise for more channels than ``split`` can make of a layer's."""
    if len(edit.keep) > 2 * channels:
        raise WorkbenchError(
            f"An edit keeps {counted(len(edit.keep), 'channel')} of layer '{edit.layer}', which has {channels:,}: the "
            "file is damaged."
        )
