"""The kernels behind the pages: one a page, a few kept ready, never more than the machine can hold.

A kernel starts for a Page and ends with it. A Page is *spare* while no browser has asked for it, *open*
from then on until its kernel has ended. Spare ones count towards the limit too, so that keeping some
ready never takes the place of a page; but a page that comes finds the spare one, and no place is lost.

A kernel ends when its page says goodbye, when the page has been gone for a while (see ``connection``),
when no page came to fetch it, when it died, or, where that is set, when its page has been idle for
hours. Why is remembered for a while, so that a page that comes back can be told.
"""

from __future__ import annotations

import asyncio
import os
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Literal

from jupyter_server._tz import utcnow
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from jupyter_server.utils import ApiPath
from tornado.ioloop import IOLoop
from traitlets import Float, Integer

from .page import Page
from .priority import NICENESS, processor_seconds, step_back, step_back_whole

Reason = Literal["closed", "died", "idle"]

#: Processor seconds between two looks at idle kernels, a minute apart, from which on one is at work.
WORKING = 6.0
#: How many ended kernels' reasons are kept.
REMEMBERED = 500


class PageKernels(AsyncMappingKernelManager):
    """Starts and ends the pages' kernels."""

    limit = Integer(40, config=True, help="Kernels at most: pages open and spare ones together.")
    spare = Integer(1, config=True, help="Pages kept ready.")
    refill_delay = Float(
        5.0, config=True, help="Seconds before another is made ready: the page just opened comes first."
    )
    patience = Float(60.0, config=True, help="Seconds within which a page must connect to its kernel.")
    idle_limit = Float(0.0, config=True, help="Seconds after which an open but idle page's kernel ends; 0: never.")

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)  # type: ignore[no-untyped-call]
        self._spares: deque[Page] = deque()
        self._open: dict[str, Page] = {}
        self._connections: dict[str, set[Any]] = {}
        self._reasons: OrderedDict[str, Reason] = OrderedDict()
        self._starting = asyncio.Semaphore(max(2, os.cpu_count() or 2))
        self._stopping = False
        self._behind: dict[str, int] = {}
        self._worked: dict[str, tuple[float, Any]] = {}  # processor seconds, and when they were last seen to grow

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return len(self._open)

    def open_page(self) -> Page | None:
        """Return a page for the browser that asks, the spare one if there is one; None where all are taken."""
        if self._stopping or (not self._spares and self.pages >= self.limit):
            return None
        page = self._spares.popleft() if self._spares else Page(self)
        self._open[page.kernel_id] = page
        self._later(0, self._balance)
        self._later(self.refill_delay, self.refill)
        return page

    def expect(self, page: Page) -> None:
        """End the page's kernel unless its browser connects in time: what fetched it may have been no browser."""

        self._later(self.patience, self.end_if_left, page.kernel_id)

    def connected(self, kernel_id: str, connection: Any) -> None:
        """Note that a page has reached its kernel."""
        self._connections.setdefault(kernel_id, set()).add(connection)

    def disconnected(self, kernel_id: str, connection: Any) -> None:
        """Note that a page has lost its kernel."""
        self._connections.get(kernel_id, set()).discard(connection)

    async def end_if_left(self, kernel_id: str) -> None:
        """End a kernel that no page is connected to."""
        if not self._connections.get(kernel_id):
            await self.end(kernel_id)

    def refill(self) -> None:
        """Make pages ready, as many as are wanted and fit."""
        while not self._stopping and len(self._spares) < self.spare and self.pages + len(self._spares) < self.limit:
            self._spares.append(Page(self))

    def state(self, kernel_id: str) -> dict[str, Any]:
        """Return what a page wants to know of its kernel: whether it is there, connected, and why it ended."""
        if kernel_id in self._open and kernel_id not in self._reasons:
            return {"open": True, "connected": bool(self._connections.get(kernel_id))}
        return {"open": False, "reason": self._reasons.get(kernel_id, "unknown")}

    async def start_for(self, page: Page, kernel_name: str) -> Any:
        """Start the page's kernel and return its manager; of many at once, some wait for others."""
        async with self._starting:
            if page.cancelled:
                raise asyncio.CancelledError
            where: dict[str, Any] = {"path": ApiPath(""), "env": dict(os.environ)}
            await self.start_kernel(kernel_id=page.kernel_id, kernel_name=kernel_name, **where)
        kernel = self.get_kernel(page.kernel_id)
        if (process := _process(kernel)) is not None:
            step_back(process)
        await self._balance()
        return kernel

    async def end(self, kernel_id: str, reason: Reason = "closed") -> None:
        """End a kernel, running or still starting; one that has ended already is no harm."""
        self._note(kernel_id, reason)
        page = self._open.get(kernel_id) or next((page for page in self._spares if page.kernel_id == kernel_id), None)
        if page is not None:
            await page.cancel()
        if kernel_id in self:
            # At once, with what it has started: what is worth keeping is on disk already, and an
            # interpreter that has torch to take down spends seconds on it.
            await super().shutdown_kernel(kernel_id, now=True)  # type: ignore[no-untyped-call]
        self._forget(kernel_id, refill=reason != "died")

    async def shutdown_kernel(  # type: ignore[override]
        self, kernel_id: str, *_args: Any, **_options: Any
    ) -> None:
        """Shut a kernel down: the page says goodbye."""
        await self.end(kernel_id)

    async def shutdown_all(self, *_args: Any, **_options: Any) -> None:  # type: ignore[override]
        """End every kernel, also those still starting, and start no more."""
        self._stopping = True
        known = {*self._open, *(page.kernel_id for page in self._spares), *self.list_kernel_ids()}
        await asyncio.gather(*map(self.end, known), return_exceptions=True)

    async def cull_kernel_if_idle(self, kernel_id: str) -> None:
        """End the kernel of a page that is open but idle for hours, where that is set; spare ones stay."""
        kernel = self._kernels[kernel_id]
        page = self._open.get(kernel_id)
        if page is None or not self.idle_limit or kernel.execution_state == "busy":
            return
        active = max(kernel.last_activity, self._last_worked(kernel_id, kernel))
        if (utcnow() - active).total_seconds() > self.idle_limit:
            await self.end(kernel_id, "idle")

    def _last_worked(self, kernel_id: str, kernel: Any) -> Any:
        """Return when a kernel, or what it started, last computed: a training may go on while no page is looked at."""
        seconds = processor_seconds(process) if (process := _process(kernel)) is not None else 0.0
        before, when = self._worked.get(kernel_id, (0.0, kernel.last_activity))
        if abs(seconds - before) > WORKING:  # less where a child has ended: it worked too
            when = utcnow()
        self._worked[kernel_id] = seconds, when
        return when

    def _handle_kernel_died(self, kernel_id: str) -> None:
        self._later(0, self.end, kernel_id, "died")

    def _note(self, kernel_id: str, reason: Reason) -> None:
        self._reasons.setdefault(kernel_id, reason)
        while len(self._reasons) > REMEMBERED:
            self._reasons.popitem(last=False)

    def _forget(self, kernel_id: str, refill: bool) -> None:
        self._open.pop(kernel_id, None)
        self._connections.pop(kernel_id, None)
        self._spares = deque(page for page in self._spares if page.kernel_id != kernel_id)
        self._behind.pop(kernel_id, None)
        self._worked.pop(kernel_id, None)
        self._later(0, self._balance)
        if refill:  # not after one that died: its successor would too
            self._later(self.refill_delay, self.refill)

    async def _balance(self) -> None:
        """Let kernels stand back as wholes beside one another; the one page that is open alone need not."""
        processes = {kernel_id: _process(self.get_kernel(kernel_id)) for kernel_id in self.list_kernel_ids()}
        for kernel_id, process in processes.items():
            wanted = 0 if self.pages == 1 and kernel_id in self._open else NICENESS
            if process is not None and self._behind.get(kernel_id, 0) != wanted:
                self._behind[kernel_id] = wanted
                await step_back_whole(process, wanted)

    def _later(self, seconds: float, call: Callable[..., Any], *arguments: Any) -> None:
        if not self._stopping:
            IOLoop.current().call_later(seconds, call, *arguments)


def _process(kernel: Any) -> int | None:
    """Return the number of a kernel's process, None where it has none on this machine."""
    process = getattr(kernel.provisioner, "process", None)
    return None if process is None else int(process.pid)
