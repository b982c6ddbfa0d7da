"""A model's channel groups, found once: ahead of time in quiet moments, or at once for whoever waits.

Tracing runs the model many times over, seconds for a network of many shuffled or concatenated layers, and
a first move of a slider that removes channels would wait for all of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from torch import nn

from .channels import ChannelGraph, trace_channels

#: Seconds between two looks at whether to go on.
PAUSE = 0.02


class Tracing:
    """The channel groups of ``module`` on images ``(C, H, W)``; any thread may ask for them."""

    def __init__(self, module: nn.Module, image_shape: tuple[int, ...]) -> None:
        self._module = module
        self._image_shape = image_shape
        self._graph: ChannelGraph | None = None
        self._waiting: set[object] = set()
        self._work = threading.Lock()

    def now(self, check: Callable[[], None] = lambda: None) -> ChannelGraph:
        """Return the groups, tracing them where nobody else is at it; ``check`` raises to give up the wait."""
        me = object()
        self._waiting.add(me)
        try:
            while self._graph is None:
                check()
                if self._work.acquire(timeout=PAUSE):
                    try:
                        self._trace(check)
                    finally:
                        self._work.release()
        finally:
            self._waiting.discard(me)
        return self._graph

    def beforehand(self, quiet: Callable[[], bool]) -> None:
        """Trace while it is ``quiet``, or someone waits for it; ``quiet`` may raise to end it."""

        def hold_back() -> None:
            while not quiet() and not self._waiting:
                time.sleep(PAUSE)

        hold_back()
        with self._work:
            self._trace(hold_back)

    def _trace(self, check: Callable[[], None]) -> None:
        if self._graph is None:
            self._graph = trace_channels(self._module, self._image_shape, check)

    def __getstate__(self) -> dict[str, Any]:
        return {"_module": self._module, "_image_shape": self._image_shape, "_graph": self._graph}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_module"], state["_image_shape"])  # type: ignore[misc]
        self._graph = state["_graph"]
