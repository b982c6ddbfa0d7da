"""Gradient checkpointing: a block keeps what entered it, and computes the rest again on the way back.

Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", with the model's own blocks as segments. A
block is a module with modules in it, looked for through plain Sequentials and lists: a residual block, an
encoder layer. The numbers stay what they were: chance is repeated by ``torch.utils.checkpoint``, the tensors a
block ran with are handed to it again (a Student's are swapped in only while it runs), and BatchNorm's running
statistics count a batch once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def blocks_of(body: nn.Module) -> list[nn.Module]:
    """Return the blocks of ``body`` in order; none where it is a chain of single layers."""
    found: list[nn.Module] = []
    for child in body.children():
        if type(child) in (nn.Sequential, nn.ModuleList):
            found += blocks_of(child)
        elif next(child.children(), None) is not None:
            found.append(child)
    return found


def checkpoint_blocks(body: nn.Module) -> Callable[[], None]:
    """Let every block of ``body`` compute its inside again on the way back; return what undoes it."""
    blocks = blocks_of(body)
    for block in blocks:
        block.forward = _again(block, block.forward)

    def undo() -> None:
        for block in blocks:
            del block.forward

    return undo


class _Inner(nn.Module):
    """A block's own forward pass, without the block's hooks, so that tensors can be swapped in around it."""

    def __init__(self, block: nn.Module, forward: Callable[..., Any]) -> None:
        super().__init__()
        self.block, self._run = block, forward

    def forward(self, *inputs: Any, **more: Any) -> Any:
        return self._run(*inputs, **more)


def _again(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    inner = [_Inner(block, forward)]  # in a list: the block is no part of itself

    def run(*inputs: Any, **more: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **more)
        named = block.named_parameters(remove_duplicate=False)
        held: dict[str, Tensor] = {f"block.{name}": tensor for name, tensor in named}

        def segment(*inputs: Any, **more: Any) -> Any:
            return functional_call(inner[0], held, inputs, more)

        contexts = lambda: (nullcontext(), _counted_once(block))  # noqa: E731
        return checkpoint(segment, *inputs, use_reentrant=False, context_fn=contexts, **more)

    return run


@contextmanager
def _counted_once(block: nn.Module) -> Iterator[None]:
    """Keep BatchNorm's running statistics while a batch goes through a second time."""
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    before = [None if count is None else count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count, was in zip(norms, momenta, counts, before, strict=True):
            norm.momentum = momentum
            if count is not None and was is not None:
                count.copy_(was)
