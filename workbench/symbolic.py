"""Symbolic tracing of modules beside other threads that run modules.

While ``torch.fx`` traces, every call of every module in the process goes through the tracer: a module that another
thread runs meanwhile is unknown to it, which is an error there. And two traces whose ends cross leave such calls to
a tracer for good. So one trace runs at a time, and calls of other threads go past it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from torch import fx, nn

_TRACING = threading.RLock()


@contextlib.contextmanager
def tracing() -> Iterator[None]:
    """Keep other traces out, and export by torch as well, which traces too."""
    with _TRACING:
        yield


def symbolic_graph(module: nn.Module) -> fx.Graph | None:
    """Return what ``module`` calls in which order; None where its control flow depends on values."""
    with tracing():
        try:
            return _ThreadTracer().trace(module)
        except Exception:  # tracing meets arbitrary user code and raises whatever that raises
            return None


class _ThreadTracer(fx.Tracer):
    """Follows the thread that made it."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)
