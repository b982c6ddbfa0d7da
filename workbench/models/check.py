"""Whether a model can be used at all, and with these images and classes: one sentence a problem."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workbench.counting import counted

from .layers import CONVOLUTIONS, LAYER_TYPES, run_zeros
from .model import ModelError, listed


def check_model(
    module: nn.Module, image_shape: tuple[int, ...], classes: int | Sequence[str] | None = None
) -> tuple[str, ...]:
    """Return what keeps ``module`` from being compressed and judged, one sentence a problem, worst first.

    ``image_shape`` is one image's ``(C, H, W)``; ``classes`` the dataset's class names or their
    number. Runs the module on two images of zeros, and on one where that fails. An empty tuple means it is usable.
    """
    found = [*_weights(module), *_layers(module), *missing_inputs(module)]
    if found:
        return tuple(found)
    pair = _pair(module, image_shape)
    if pair is not None:
        return _outputs(module, pair[:1], classes)
    first: list[tuple[nn.Module, Tensor]] = []
    try:
        with _watched(module, first):
            output = run_zeros(module, image_shape)
    except ModelError as error:
        return (_channels(module, image_shape, first) or _size(error),)
    return _outputs(module, output, classes) or (
        f"{type(module).__name__} takes one image at a time, and the workbench gives batches: let its forward keep the "
        "first dimension, (N, C, H, W) to (N, classes).",
    )


def require_model(module: nn.Module, image_shape: tuple[int, ...], classes: int | Sequence[str] | None = None) -> None:
    """Raise ``ModelError`` with the first sentence of ``check_model``, if there is one."""
    problems = check_model(module, image_shape, classes)
    if problems:
        raise ModelError(problems[0])


def _pair(module: nn.Module, image_shape: tuple[int, ...]) -> Tensor | None:
    """Return the logits of two images of zeros, None where there is no row of them for each."""
    try:
        output = run_zeros(module, image_shape, 2)
    except ModelError:
        return None
    return output if isinstance(output, Tensor) and output.ndim == 2 and len(output) == 2 else None


def numbered_classes(module: nn.Module, image_shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return a name, its number, for each output of a ``module`` that ``require_model`` lets pass."""
    return tuple(str(number) for number in range(run_zeros(module, image_shape).shape[1]))


def _weights(module: nn.Module) -> list[str]:
    broken = []
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            kind = "NaN" if bool(torch.isnan(tensor).any()) else "infinite"
            broken.append(f"'{name}' ({count:,} of {tensor.numel():,} values, {kind})")
    if not broken:
        return []
    return [
        f"The model's weights are not all finite numbers: {listed(broken, 3)}; "
        "load weights from before the training diverged."
    ]


def _layers(module: nn.Module) -> list[str]:
    layers = [part for part in module.modules() if isinstance(part, LAYER_TYPES)]
    if layers:
        return []
    has = sorted({type(part).__name__ for part in module.modules() if part is not module})
    return [
        f"{type(module).__name__} has no layer that can be pruned or quantized "
        f"(convolution, Linear, Embedding, recurrent or attention); it is made of {listed(has) or 'itself'}."
    ]


def missing_inputs(module: nn.Module) -> list[str]:
    """Return a sentence where ``module`` needs more than one batch of images."""
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # a forward without a Python signature: found out by running it
        return []
    needed = [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if len(needed) <= 1:
        return []
    return [
        f"{type(module).__name__} takes {len(needed)} inputs ({', '.join(needed)}), and the workbench gives "
        "one batch of images: wrap it in a module that fills in the others."
    ]


@contextmanager
def _watched(module: nn.Module, first: list[tuple[nn.Module, Tensor]]) -> Iterator[None]:
    """Append to ``first`` each convolution that is called, with its input, while inside."""

    def record(layer: nn.Module, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor):
            first.append((layer, args[0]))

    convolutions = [layer for layer in module.modules() if isinstance(layer, CONVOLUTIONS)]
    handles = [layer.register_forward_pre_hook(record) for layer in convolutions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _channels(module: nn.Module, image_shape: tuple[int, ...], first: list[tuple[nn.Module, Tensor]]) -> str | None:
    """Say so where it was the first convolution that failed, for want of other channels."""
    if len(first) != 1 or first[0][1].shape[1:] != image_shape:
        return None
    wanted = getattr(first[0][0], "in_channels", None)
    if wanted is None or wanted == image_shape[0]:
        return None
    return (
        f"{type(module).__name__} takes images of {_channel(wanted)}, and these have "
        f"{_channel(image_shape[0])}: choose data or a model of the same kind."
    )


def _size(error: ModelError) -> str:
    return f"{str(error).rstrip('.')}; the model was probably made for images of another size."


def _outputs(module: nn.Module, output: Any, classes: int | Sequence[str] | None) -> tuple[str, ...]:
    name = type(module).__name__
    advice = "wrap it in a module that returns one (N, classes) tensor of logits"
    if not isinstance(output, Tensor):
        parts = f" of {len(output)}" if isinstance(output, Sized) else ""
        return (f"{name} returns a {type(output).__name__}{parts}, not one tensor of logits: {advice}.",)
    if output.ndim != 2 or output.shape[0] != 1:
        return (f"{name} returns a tensor of shape {tuple(output.shape)} for one image: {advice}.",)
    if not bool(torch.isfinite(output).all()):
        return (f"{name} returns NaN or infinite logits for a blank image: its weights may be damaged.",)
    if classes is None:
        return ()
    count = classes if isinstance(classes, int) else len(classes)
    if output.shape[1] != count:
        return (
            f"{name} tells {counted(output.shape[1], 'class')} apart, and the dataset has {count}: choose data with "
            "the classes the model was trained on.",
        )
    return ()


def _channel(count: int) -> str:
    return f"{count} channel{'' if count == 1 else 's'}"
