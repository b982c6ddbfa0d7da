"""One layer as a chain of smaller ones whose product is, or comes near, its weight.

A chain is a ``nn.Sequential`` in the layer's place; its tensors are named ``layer.0.weight`` and so on, the
bias belongs to the last. What kernel axes each link convolves over is its scheme:

    svd       all the kernel, then 1×1                     (Zhang et al. 2016; a Linear is two Linears)
    tucker2   1×1, all the kernel, 1×1                     (Kim et al. 2016)
    cp        1×1, one depthwise link for each axis, 1×1   (Lebedev et al. 2015)
    tt        1×1, one link for each axis, 1×1             (Oseledets 2011, Garipov et al. 2016)
    tucker    1×1, one grouped link for each axis, core 1×1, 1×1   (Tucker 1966, all modes)

In the last, an axis link turns each channel into as many as that axis has components.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from workbench.calls import runs_as
from workbench.errors import WorkbenchError
from workbench.late import Late, Tensors

Scheme = Literal["svd", "tucker2", "tucker", "cp", "tt"]
Weights = Sequence[Tensor]


@dataclass(frozen=True)
class Factorize:
    """Replace ``layer`` by the links of ``scheme``; ``ranks`` are the channels between one link and the next."""

    layer: str
    scheme: Scheme
    ranks: tuple[int, ...]


#: Weights that the links of the smallest layers may have beyond theirs.
FEW = 64


@dataclass(frozen=True)
class Link:
    """One link: the kernel axes it convolves over, and whether it keeps its input channels apart."""

    axes: tuple[int, ...]
    grouped: bool = False


def links(scheme: Scheme, axes: int) -> tuple[Link, ...]:
    """Return the links of a layer whose kernel has so many axes (0 for a Linear)."""
    whole, single = Link(tuple(range(axes))), [Link((axis,)) for axis in range(axes)]
    point = Link(())
    apart = [Link((axis,), grouped=True) for axis in range(axes)]
    return {
        "svd": (whole, point),
        "tucker2": (point, whole, point),
        "cp": (point, *apart, point),
        "tt": (point, *single, point),
        "tucker": (point, *apart, point, point),
    }[scheme]


def refusal(module: nn.Module, scheme: Scheme) -> str | None:
    """Return why ``module`` cannot be factorized by ``scheme``, or None where it can."""
    plain = _plain(module)
    if plain is None:
        return f"a {type(module).__name__} cannot be factorized"
    if not runs_as(module, plain):
        return f"a {type(module).__name__} makes something of its weight first"
    if module._forward_hooks or module._forward_pre_hooks:
        return "more is run where it is called"
    if plain is nn.Linear:
        return None if scheme == "svd" else f"{scheme} is for convolutions"
    assert isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    if module.groups != 1:
        return "its channels are in groups"
    if module.padding_mode != "zeros":
        return f"its padding is '{module.padding_mode}'"
    if module.padding == "same" and any(size % 2 == 0 for size in module.kernel_size):
        return "its padding differs between the two sides"
    if scheme != "svd" and math.prod(module.kernel_size) == 1:
        return f"its kernel is a single point, for which {scheme} is nothing but svd"
    return None


def _plain(module: nn.Module) -> Any:
    """Return the class of layer that ``module`` is one of; None where it has no factors."""
    return next((kind for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d) if isinstance(module, kind)), None)


def irreplaceable(module: nn.Module, edits: Sequence[Factorize], image_shape: tuple[int, ...]) -> dict[str, str]:
    """Return the name of each layer with whose links in its place ``module`` does not run → the reason.

    Code that reads a layer's weight past it, say, finds none there. All are tried together first. ``module`` is
    left alone; its own tensors are run, on an image of zeros.
    """
    together = _fails(module, edits, image_shape)
    if together is None:
        return {}
    reasons = {edit.layer: _fails(module, [edit], image_shape) for edit in edits}
    found = {layer: reason for layer, reason in reasons.items() if reason is not None}
    return found or dict.fromkeys(reasons, together)


def _fails(module: nn.Module, edits: Sequence[Factorize], image_shape: tuple[int, ...]) -> str | None:
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    copied = copy.deepcopy(module, dict(shared)).eval()
    for edit in edits:
        replace_layer(copied, edit)
    try:
        with torch.no_grad():
            copied(torch.zeros(1, *image_shape))
    except Exception as error:  # user code meets parts it was not written for
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:80]
        return f"the model does not run with factors in its place: {said}"
    return None


class Uninitialized(TorchFunctionMode):
    """While it is entered, modules made by this thread keep whatever their memory holds: first values take longest."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def factor_modules(module: Any, edit: Factorize) -> nn.Sequential:
    """Return the untrained links that replace ``module``."""
    if isinstance(module, nn.Linear):
        (rank,) = edit.ranks
        return nn.Sequential(
            nn.Linear(module.in_features, rank, bias=False),
            nn.Linear(rank, module.out_features, bias=module.bias is not None),
        )
    kind, convolution = _plain(module), module  # a class of its own may be made in another way
    chain = links(edit.scheme, len(convolution.kernel_size))
    widths = (convolution.in_channels, *edit.ranks, convolution.out_channels)
    padding = convolution.padding if not isinstance(convolution.padding, str) else _explicit(convolution)
    built = []
    for place, link in enumerate(chain):

        def on(values: Sequence[int], otherwise: int, axes: tuple[int, ...] = link.axes) -> tuple[int, ...]:
            return tuple(value if axis in axes else otherwise for axis, value in enumerate(values))

        built.append(
            kind(
                widths[place],
                widths[place + 1],
                on(convolution.kernel_size, 1),
                stride=on(convolution.stride, 1),
                padding=on(padding, 0),
                dilation=on(convolution.dilation, 1),
                groups=widths[place] if link.grouped else 1,
                bias=convolution.bias is not None and place == len(chain) - 1,
            )
        )
    return nn.Sequential(*built)


def replace_layer(module: nn.Module, edit: Factorize) -> None:
    """Put the links in the place of the layer that ``edit`` names, in ``module``."""
    parent, _, own = edit.layer.rpartition(".")
    layer = module.get_submodule(edit.layer)
    if _weights_of(layer, edit) > 4 * sum(tensor.numel() for tensor in layer.parameters()) + FEW:
        raise WorkbenchError(f"The factors of layer '{edit.layer}' have far more weights than it: the file is damaged.")
    setattr(module.get_submodule(parent), own, factor_modules(layer, edit))


def _weights_of(module: Any, edit: Factorize) -> int:
    """Return how many weights the links have, before they take memory."""
    if isinstance(module, nn.Linear):
        return sum(edit.ranks) * (module.in_features + module.out_features)
    widths = (module.in_channels, *edit.ranks, module.out_channels)
    return sum(
        (1 if link.grouped else before) * after * math.prod(module.kernel_size[axis] for axis in link.axes)
        for link, before, after in zip(
            links(edit.scheme, len(module.kernel_size)), widths[:-1], widths[1:], strict=True
        )
    )


def compose(scheme: Scheme, weights: Weights) -> Tensor:
    """Return the dense weight that the links' ``weights`` together stand for."""
    first, *middle, last = weights
    if first.ndim == 2 or scheme == "svd":
        return torch.einsum("or,ri...->oi...", last.flatten(1), first)
    shared = first.flatten(1)  # (r, in): from here on (r, in, kernel axes so far)
    for place, weight in enumerate(middle):
        if scheme == "tucker2":
            shared = torch.einsum("sr...,ri->si...", weight, shared)
        elif scheme == "cp" or (scheme == "tucker" and place < len(middle) - 1):
            each = len(weight) // len(shared)
            taps = weight.reshape(len(shared), each, -1)
            shared = torch.einsum("rek,ri...->rei...k", taps, shared).flatten(0, 1)
        elif scheme == "tucker":
            shared = torch.einsum("sr,r...->s...", weight.flatten(1), shared)
        else:
            shared = torch.einsum("srk,ri...->si...k", weight.flatten(2), shared)
    return torch.einsum("or,r...->o...", last.flatten(1), shared)


def factor_macs(module: nn.Module, edit: Factorize, weights: Weights, entering: Sequence[int], calls: float) -> int:
    """Return the multiply-accumulates of the links for one image.

    ``entering`` is the size of the image along each kernel axis before the layer, ``calls`` how often the
    layer's positions are computed: calls for a convolution, calls × positions for a Linear.
    """
    total, size = 0.0, list(entering)
    if isinstance(module, nn.Linear):
        return round(calls * sum(weight.numel() for weight in weights))
    convolution: Any = module
    padding = convolution.padding if not isinstance(convolution.padding, str) else _explicit(convolution)
    for link, weight in zip(links(edit.scheme, len(convolution.kernel_size)), weights, strict=True):
        for axis in link.axes:
            reach = convolution.dilation[axis] * (convolution.kernel_size[axis] - 1)
            size[axis] = (size[axis] + 2 * padding[axis] - reach - 1) // convolution.stride[axis] + 1
        total += weight.numel() * math.prod(size)
    return round(calls * total)


def _explicit(convolution: Any) -> tuple[int, ...]:
    """Return the padding that 'same' or 'valid' stands for; only symmetric ones are factorized."""
    if convolution.padding == "valid":
        return (0,) * len(convolution.kernel_size)
    reach = zip(convolution.kernel_size, convolution.dilation, strict=True)
    return tuple(dilation * (size - 1) // 2 for size, dilation in reach)


class WithProducts(Tensors):
    """A model's tensors; asked by its old name, the weight of a factorized layer is its links' product.

    What asks so compares a layer with what it was, or runs it in the dense graph: the answers are the same
    to float tolerance. Only the links' own names are there to be listed.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(tensors)
        self._factors: dict[str, Factorize] = {}
        self._products: dict[str, tuple[list[Tensor], Tensor]] = {}

    def add(self, edit: Factorize) -> None:
        """Answer for the layer that ``edit`` replaced, too."""
        self._factors[edit.layer] = edit

    def __getitem__(self, name: str) -> Tensor:
        return super().__getitem__(name) if name in self else self._product(name)

    def held(self, name: str) -> Tensor | Late:
        return super().held(name) if name in self else self._product(name)

    def _product(self, name: str) -> Tensor:
        layer, _, local = name.rpartition(".")
        edit = self._factors.get(layer)
        if edit is None or local not in ("weight", "bias"):
            raise KeyError(name)
        last = len(edit.ranks)
        if local == "bias":
            return self[f"{layer}.{last}.bias"]
        weights = [self[f"{layer}.{place}.weight"] for place in range(last + 1)]
        known = self._products.get(name)
        if known is None or any(old is not new for old, new in zip(known[0], weights, strict=True)):
            known = self._products[name] = weights, compose(edit.scheme, weights)
        return known[1]
