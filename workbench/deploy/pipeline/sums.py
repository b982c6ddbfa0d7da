"""Outputs of a layer added up over all processes."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor, nn


class AllReduce:
    """Forward hook that adds a layer's output up over all processes, in place; ``seconds`` and ``count`` are of all."""

    seconds, count = 0.0, 0

    def __call__(self, _: nn.Module, __: tuple[Any, ...], output: Any) -> Any:
        from torch import distributed

        start = time.perf_counter()
        terms: Tensor = output[0] if isinstance(output, tuple) else output
        terms = terms.contiguous()
        distributed.all_reduce(terms)
        AllReduce.count += 1
        AllReduce.seconds += time.perf_counter() - start
        return (terms, *output[1:]) if isinstance(output, tuple) else terms
