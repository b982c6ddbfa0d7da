"""The table of layers that techniques may touch, measured with one image of zeros."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .macs import count_macs
from .model import ModelError

CONVOLUTIONS = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
#: Modules with weights that techniques may touch; every other module passes through unchanged.
LAYER_TYPES = (*CONVOLUTIONS, nn.Linear, nn.Embedding, nn.EmbeddingBag, *RECURRENT, nn.MultiheadAttention)


@dataclass(frozen=True)
class Layer:
    """One row of the table; figures are of one image.

    ``shape`` is that of the tensor named ``weight``, the layer's main one; ``weights`` names all its
    weight matrices (a recurrent or attention layer has several, and the output projection belongs to
    its attention). ``params`` leaves out parameters that an earlier row shares, so that the column
    sums to the model's. ``macs`` and ``activation_bytes`` (float32 output) sum over the layer's
    calls and are 0 for a layer that is never called; ``output_shape`` and ``input_shape``, of the first
    call, have no batch dimension.
    """

    name: str
    type: str
    weight: str
    shape: tuple[int, ...]
    params: int
    macs: int
    activation_bytes: int
    output_shape: tuple[int, ...]
    weights: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()


@dataclass
class _Calls:
    macs: int = 0
    activation_bytes: int = 0
    output_shape: tuple[int, ...] = ()
    input_shape: tuple[int, ...] = ()


def layers_of(module: nn.Module, image_shape: tuple[int, ...]) -> tuple[Layer, ...]:
    """Return the layers in the order they are first called, then those that are never called.

    ``image_shape`` is one image's ``(C, H, W)``. Runs a copy of ``module`` once in eval mode on one image of
    zeros: another thread may copy ``module`` meanwhile, and hooks would be copied with it. Raises
    ``ModelError`` where it does not run.
    """
    module = copy.deepcopy(module)
    names = layer_names(module)
    calls: dict[nn.Module, _Calls] = {}

    def record(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        seen = calls.setdefault(layer, _Calls())
        result = _tensor(output)
        seen.macs += count_macs(layer, args, kwargs, result)
        seen.activation_bytes += 4 * result.numel()
        if not seen.output_shape:
            seen.output_shape = _without_batch(layer, result)
            entering = next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)
            seen.input_shape = () if entering is None else _without_batch(layer, entering)

    with hooked(names, record):
        run_zeros(module, image_shape)
    ordered = [*calls, *(layer for layer in names if layer not in calls)]
    registered = {id(parameter): name for name, parameter in module.named_parameters()}
    counted: set[int] = set()
    return tuple(_row(names[layer], layer, calls.get(layer, _Calls()), registered, counted) for layer in ordered)


def run_zeros(module: nn.Module, image_shape: tuple[int, ...], count: int = 1) -> Any:
    """Return what ``module`` gives for ``count`` images of zeros, in eval mode, whatever its training flags.

    Raises ``ModelError`` where the module does not run on images of that shape.
    """
    flags = [(part, part.training) for part in module.modules()]
    first = next(module.parameters(), torch.empty(0))
    zeros = torch.zeros(count, *image_shape, device=first.device, dtype=first.dtype)
    try:
        for part, _ in flags:
            part.training = False
        with torch.no_grad():
            return module(zeros)
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")[:200]
        raise ModelError(
            f"{type(module).__name__} does not run on images of shape {tuple(image_shape)}: {reason}."
        ) from error
    finally:
        for part, training in flags:
            part.training = training


@contextmanager
def hooked(layers: dict[nn.Module, str], record: Callable[..., None]) -> Iterator[None]:
    """Call ``record(layer, args, kwargs, output)`` after each call of a layer, while inside."""
    handles = [layer.register_forward_hook(record, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def layer_names(module: nn.Module) -> dict[nn.Module, str]:
    """Return layer → dotted name, shared modules once, an attention's own projection and empty layers left out."""
    left = {part.out_proj for part in module.modules() if isinstance(part, nn.MultiheadAttention)}
    return {
        part: name
        for name, part in module.named_modules()
        if isinstance(part, LAYER_TYPES) and part not in left and not _is_empty(part)
    }


def output_axis(layer: nn.Module) -> int:
    """Return the axis of the layer's weight that counts its outputs.

    A transposed convolution's weight is ``(in, out / groups, kernel)``: with a filter for each channel, the first axis
    counts both; with other groups, channels at one place of each group are one entry of the second.
    """
    if not isinstance(layer, nn.modules.conv._ConvTransposeNd):
        return 0
    return 0 if layer.groups == layer.in_channels == layer.out_channels else 1


def _is_empty(layer: nn.Module) -> bool:
    """Whether none of the layer's weight matrices holds a value."""
    weights = [parameter for parameter in layer.parameters() if parameter.ndim >= 2]
    return bool(weights) and not any(weight.numel() for weight in weights)


def _row(name: str, layer: nn.Module, calls: _Calls, registered: dict[int, str], counted: set[int]) -> Layer:
    """Return one row; ``registered`` says what a parameter goes by, ``counted`` is those of earlier rows."""
    params, weights = 0, []
    main: Tensor | None = None
    for parameter in layer.parameters():
        params += parameter.numel() if id(parameter) not in counted else 0
        counted.add(id(parameter))
        if parameter.ndim >= 2:
            weights.append(registered[id(parameter)])
            main = parameter if main is None else main
    if main is None:
        raise ModelError(f"Layer '{name}' ({type(layer).__name__}) has no weight matrix to compress.")
    kind = type(layer).__name__
    shape = tuple(main.shape)
    return Layer(
        name, kind, weights[0], shape, params, calls.macs, calls.activation_bytes, calls.output_shape,
        tuple(weights), calls.input_shape,
    )  # fmt: skip


def _tensor(output: Any) -> Tensor:
    """Return a layer's main output: recurrent layers and attention give a tuple of it and more."""
    while isinstance(output, tuple) and not isinstance(output, nn.utils.rnn.PackedSequence):
        output = output[0]
    if isinstance(output, nn.utils.rnn.PackedSequence):
        return output.data
    result: Tensor = output
    return result


def _without_batch(layer: nn.Module, output: Tensor) -> tuple[int, ...]:
    """Drop the batch dimension, which is 1; layers that are fed more (patches, tokens) keep theirs."""
    shape = tuple(output.shape)
    axis = 0 if getattr(layer, "batch_first", True) or len(shape) < 3 else 1
    return shape[:axis] + shape[axis + 1 :] if shape[axis : axis + 1] == (1,) else shape
