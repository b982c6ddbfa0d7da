"""Which of the two neighbouring levels a weight takes, so that the layer's output changes least.

Both methods make ``tr (Q - W) H (Q - W)ᵀ`` small, where W are the weights ``(outputs, columns)``, Q those
on the grid and H the second moments of the layer's inputs; no label is needed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Added to H's diagonal, as a share of its mean, so that inputs never seen do not matter infinitely little.
DAMPING = 0.01
#: Times that it is raised tenfold more, at most, until equations have a solution.
TRIES = 12
#: Times that coordinate descent goes over all columns, at most.
SWEEPS = 4
#: AdaRound's stretched sigmoid (Louizos et al. 2018), its regularizer's weight, and its schedule.
LOW, HIGH, WEIGHT, WARM_UP, HARD, SOFT = -0.1, 1.1, 0.01, 0.2, 2.0, 20.0


def damped(second: Tensor) -> Tensor:
    """Return the second moments with the diagonal raised a little; a dead input gets the mean's weight."""
    diagonal = second.diagonal()
    amount = DAMPING * diagonal.mean().clamp_min(1e-10)
    return second + amount * torch.eye(len(second))


def sound(second: Tensor) -> Tensor:
    """Return the second moments with the diagonal raised until, damped, they are positive definite.

    They nearly always are. But of inputs that vary little about a large mean float32 leaves noise, whose matrix has
    negative eigenvalues.
    """
    amount = DAMPING * second.diagonal().abs().mean().clamp_min(1e-10)
    for _ in range(TRIES):
        if not int(torch.linalg.cholesky_ex(damped(second).double()).info):
            break
        second = second + amount * torch.eye(len(second))
        amount *= 10
    return second


def error(change: Tensor, second: Tensor) -> Tensor:
    """Return each output's mean squared error for a change of the weights ``(outputs, columns)``."""
    return ((change @ second) * change).sum(1)


def descend(
    codes: Tensor,
    weight: Tensor,
    hessian: Tensor,
    scale: Tensor,
    zero: Tensor,
    bounds: tuple[Tensor, Tensor],
    frozen: Tensor | None,
) -> Tensor:
    """Return codes from which no single one within ``bounds`` can be changed for the better, or after ``SWEEPS``.

    Coordinate descent, a column at a time; the error never rises.
    """
    codes = codes.clone()
    slope = ((codes - zero) * scale - weight) @ hessian
    for _ in range(SWEEPS):
        moved = False
        for place in range(codes.shape[1]):
            step, curve = scale[:, place], hessian[place, place]
            best = (codes[:, place] - slope[:, place] / (curve * step)).round()
            best = best.clamp(bounds[0][:, place], bounds[1][:, place])
            if frozen is not None:
                best = torch.where(frozen[:, place], codes[:, place], best)
            change = (best - codes[:, place]) * step
            if bool((change != 0).any()):
                moved = True
                slope += change[:, None] * hessian[place]
                codes[:, place] = best
        if not moved:
            break
    return codes


def round_by_elimination(
    weight: Tensor, second: Tensor, scale: Tensor, zero: Tensor, bits: int, frozen: Tensor | None
) -> Tensor:
    """Return codes ``(outputs, columns)``: column by column, what each loses made up for by those still to come.

    Frantar et al. 2023, GPTQ, in the order of falling diagonal. ``scale`` and ``zero`` have the weight's
    shape; weights where ``frozen`` is true stay zero.
    """
    order = second.diagonal().argsort(descending=True)
    back = order.argsort()
    hessian = damped(second)[order][:, order].double()
    inverse = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True).float()
    left, scale, zero = weight[:, order].clone(), scale[:, order], zero[:, order]
    held = None if frozen is None else frozen[:, order]
    codes = torch.empty_like(left)
    for place in range(left.shape[1]):
        column = left[:, place]
        code = (column / scale[:, place]).round().add(zero[:, place]).clamp(0, 2**bits - 1)
        if held is not None:
            code = torch.where(held[:, place], zero[:, place], code)
        codes[:, place] = code
        lost = (column - (code - zero[:, place]) * scale[:, place]) / inverse[place, place]
        left[:, place + 1 :] -= lost[:, None] * inverse[place, place + 1 :]
    bounds = torch.zeros_like(codes), torch.full_like(codes, 2**bits - 1)
    return descend(codes[:, back], weight, damped(second), scale[:, back], zero[:, back], bounds, frozen)


def round_by_learning(
    weight: Tensor,
    second: Tensor,
    scale: Tensor,
    zero: Tensor,
    bits: int,
    frozen: Tensor | None,
    iterations: int,
    check: Callable[[], None],
) -> Tensor:
    """Return codes ``(outputs, columns)``: for each weight up or down is learned by gradient descent.

    Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization". Where the choice is
    worse for an output than rounding to nearest, that output starts from the nearest; coordinate descent among the
    same neighbours ends it.
    """
    hessian = damped(second).detach()
    scaled = weight / scale
    floor = scaled.floor()
    share = (scaled - floor).clamp(1e-3, 1 - 1e-3)
    logits = torch.logit((share - LOW) / (HIGH - LOW)).requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.02)
    size = error(weight, hessian).mean().clamp_min(1e-12)
    for step in range(iterations):
        check()
        rise = (torch.sigmoid(logits) * (HIGH - LOW) + LOW).clamp(0, 1)
        codes = (floor + rise + zero).clamp(0, 2**bits - 1)
        change = (codes - zero) * scale - weight
        loss = error(change, hessian).mean() / size
        progress = (step / iterations - WARM_UP) / (1 - WARM_UP)
        if progress > 0:
            power = HARD + (SOFT - HARD) * (1 - progress)
            loss = loss + WEIGHT * (1 - (2 * rise - 1).abs().pow(power)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        learned = (floor + (logits >= 0) + zero).clamp(0, 2**bits - 1)
        nearest = (scaled.round() + zero).clamp(0, 2**bits - 1)
        errors = [error((codes - zero) * scale - weight, hessian) for codes in (learned, nearest)]
        codes = torch.where((errors[0] < errors[1])[:, None], learned, nearest)
        codes = codes if frozen is None else torch.where(frozen, zero, codes)
        bounds = (floor + zero).clamp(0, 2**bits - 1), (floor + 1 + zero).clamp(0, 2**bits - 1)
        return descend(codes, weight, hessian, scale, zero, bounds, frozen)
