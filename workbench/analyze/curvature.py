"""First and second derivatives of the loss by the weights, as products with given changes: no matrix is formed."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from workbench.errors import WorkbenchError

from .finding import Floats

#: Images whose gradients are held at once, one for each image.
TOGETHER = 16

Check = Callable[[], None]


def gradient_products(
    module: nn.Module,
    rows: Sequence[Sequence[Mapping[str, Tensor]]],
    images: Tensor,
    labels: Tensor,
    check: Check,
) -> tuple[Floats, Floats, Floats]:
    """Return E |g·Δ| and E (g·Δ)², ``(rows, cells)``, and E ‖g‖², ``(rows,)``, g being each image's own gradient.

    Each row's cells are changes Δ of the same weights, by name; the loss is the cross-entropy.
    """
    first, second = (np.zeros((len(rows), len(rows[0]))) for _ in range(2))
    trace = np.zeros(len(rows))
    stacked = [
        {name: torch.stack([cell[name].flatten() for cell in row]) for name in row[0]} for row in rows
    ]  # weight → (cells, n)
    names = tuple(dict.fromkeys(name for row in stacked for name in row))
    for batch, answers in zip(images.split(TOGETHER), labels.split(TOGETHER), strict=True):
        check()
        gradients = _each_gradient(module, names, batch, answers)
        for place, row in enumerate(stacked):
            products: Tensor = sum(
                (gradients[name].flatten(1) @ changes.T for name, changes in row.items()),
                torch.zeros(len(batch), len(rows[place])),
            )
            first[place] += products.abs().sum(0).double().numpy()
            second[place] += products.square().sum(0).double().numpy()
            trace[place] += sum(float(gradients[name].square().sum()) for name in row)
    return first / len(images), second / len(images), trace / len(images)


def hessian_traces(
    module: nn.Module, groups: Sequence[tuple[str, ...]], images: Tensor, labels: Tensor, probes: int, check: Check
) -> tuple[Floats, Floats]:
    """Return the trace of the mean loss's Hessian by each group of weights, and its standard error, ``(groups,)``.

    Hutchinson 1990: the mean of vᵀ H v over vectors v of random signs. One product serves all groups: what groups
    have to do with each other is zero in the mean.
    """
    names = tuple(dict.fromkeys(name for group in groups for name in group))
    chance = torch.Generator().manual_seed(0)
    found = np.zeros((probes, len(groups)))
    with _differentiable(module, names) as parameters:
        for probe in range(probes):
            signs = {name: torch.randint(0, 2, parameters[name].shape, generator=chance) * 2.0 - 1.0 for name in names}
            for batch, answers in zip(images.split(32), labels.split(32), strict=True):
                check()
                curved = _hessian_product(module, parameters, signs, batch, answers)
                for place, group in enumerate(groups):
                    found[probe, place] += sum(float((signs[name] * curved[name]).sum()) for name in group)
    found /= len(images)
    return found.mean(0), found.std(0, ddof=1) / np.sqrt(probes) if probes > 1 else np.full(len(groups), np.nan)


def _hessian_product(
    module: nn.Module, parameters: Mapping[str, Tensor], signs: Mapping[str, Tensor], images: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    loss = _loss(module, images, labels)
    values = list(parameters.values())
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(loss, values, create_graph=True, allow_unused=True)
    pairs = zip(parameters, gradients, strict=True)
    products = [(gradient * signs[name]).sum() for name, gradient in pairs if gradient is not None]
    product = sum(products, torch.zeros(()))
    if not product.requires_grad:  # the loss is linear in the weights
        return {name: torch.zeros_like(value) for name, value in parameters.items()}
    curved: tuple[Tensor | None, ...] = torch.autograd.grad(product, values, allow_unused=True)
    return {
        name: torch.zeros_like(value) if found is None else found
        for (name, value), found in zip(parameters.items(), curved, strict=True)
    }


def _each_gradient(module: nn.Module, names: tuple[str, ...], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return each image's own gradient by weight, ``(images, *shape)``; together where PyTorch can, else in turn."""
    weights = {name: module.get_parameter(name).detach() for name in names}

    def loss(changed: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = _logits(torch.func.functional_call(module, changed, (image[None],)), label)
        return F.cross_entropy(logits, label[None])

    with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
        warnings.simplefilter("ignore", UserWarning)
        try:
            together = torch.func.vmap(torch.func.grad(loss), (None, 0, 0))
            return dict(together(weights, images, labels))
        except (RuntimeError, NotImplementedError, ValueError):  # layers that know no batch of weights, such as an LSTM
            each = [
                _one_gradient(module, names, image[None], label[None])
                for image, label in zip(images, labels, strict=True)
            ]
    return {name: torch.stack([found[name] for found in each]) for name in names}


def _one_gradient(module: nn.Module, names: tuple[str, ...], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    with _differentiable(module, names) as parameters:
        loss = _loss(module, images, labels)
        found: tuple[Tensor | None, ...] = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(value) if gradient is None else gradient
        for (name, value), gradient in zip(parameters.items(), found, strict=True)
    }


@contextlib.contextmanager
def _differentiable(module: nn.Module, names: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """Let gradients be taken by some of a private module's weights, also where the caller takes none."""
    parameters = {name: module.get_parameter(name) for name in names}
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        yield {name: parameter.requires_grad_(True) for name, parameter in parameters.items()}
    for parameter in parameters.values():
        parameter.requires_grad_(False)


def _loss(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(_logits(module(images), labels), labels, reduction="sum")


def _logits(output: object, labels: Tensor) -> Tensor:
    """Return the (first) output; raises ``WorkbenchError`` where it is no logits."""
    while isinstance(output, dict | tuple | list) and output:
        output = next(iter(output.values() if isinstance(output, dict) else output))
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise WorkbenchError("This metric needs a classifier that gives a row of logits for each image.")
    return output
