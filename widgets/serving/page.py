"""One page: the notebook rendered on a kernel of its own, and the handlers that hand it to a browser."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import tornado.web
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from tornado.iostream import StreamClosedError
from voila.notebook_renderer import NotebookRenderer
from voila.utils import get_page_config

if TYPE_CHECKING:
    from .kernels import PageKernels

#: Seconds of silence after which a browser is told that work goes on, lest a proxy hang up.
HEARTBEAT = 10.0
#: Seconds after which a browser that found no place tries again.
RETRY = 10
_log = logging.getLogger(__name__)


class Page:
    """The notebook being rendered, begun as soon as it is made.

    The HTML is kept piece by piece until a browser takes it: what stands before the first cell, the
    skeleton with it, is there before the kernel is.
    """

    def __init__(self, kernels: PageKernels) -> None:
        self.kernel_id = str(uuid.uuid4())
        self._kernels = kernels
        self._pieces: list[str] = []
        self._news = asyncio.Event()
        self._start: asyncio.Future[Any] | None = None
        self._task = asyncio.ensure_future(self._render())
        self.cancelled = False

    async def cancel(self) -> None:
        """Stop rendering, and wait until the kernel has either started or will not."""
        self.cancelled = True
        if self._task is not asyncio.current_task():  # one that failed sees to its own end
            self._task.cancel()
        if self._start is not None:
            await asyncio.wait([self._start])

    async def html(self) -> AsyncIterator[str]:
        """Yield the page as it is rendered, for one browser."""
        while True:
            self._news.clear()
            pieces, self._pieces = self._pieces, []
            if pieces:
                yield "".join(pieces)
            elif self._task.done():
                return
            else:
                try:
                    await asyncio.wait_for(self._news.wait(), HEARTBEAT)
                except TimeoutError:
                    yield "<script>voila_heartbeat()</script>\n"

    async def _render(self) -> None:
        try:
            renderer = self._renderer()
            await renderer.initialize()
            name = renderer.notebook.metadata.kernelspec.name
            self._start = asyncio.ensure_future(self._kernels.start_for(self, name))
            # shielded: a start given up halfway would leave a process that nobody knows of
            started = asyncio.shield(self._start)
            async for piece, _ in renderer.generate_content_generator(self.kernel_id, started):
                self._add(piece)
        except asyncio.CancelledError:
            self._add("<script>workbenchPage.ended('closed')</script>")
        except Exception:
            _log.exception("The page could not be rendered.")
            self._add("<script>workbenchPage.ended('failed')</script>")
            await self._kernels.end(self.kernel_id, "died")
        finally:
            self._news.set()

    def _add(self, piece: str) -> None:
        self._pieces.append(piece)
        self._news.set()

    def _renderer(self) -> NotebookRenderer:
        server: Any = self._kernels.parent
        shared = {"base_url": server.base_url, "voila_configuration": server.voila_configuration}
        settings = server.app.settings
        return NotebookRenderer(
            **shared,
            traitlet_config=server.config,
            notebook_path=server.notebook_name,
            template_paths=server.template_paths,
            config_manager=server.config_manager,
            contents_manager=server.contents_manager,
            kernel_spec_manager=server.kernel_spec_manager,
            page_config=get_page_config(**shared, settings=settings, log=server.log),
        )


class PageHandler(JupyterHandler):
    """Gives each browser that asks a page of its own, or says that there is no place."""

    @tornado.web.authenticated
    async def get(self) -> None:
        """Send the page as it comes into being."""
        kernels: Any = self.kernel_manager
        self.set_header("Cache-Control", "no-store")
        page = kernels.open_page()
        if page is None:
            self._refuse(kernels.pages)
            return
        self.set_header("X-Accel-Buffering", "no")  # a proxy must not hold the skeleton back
        try:
            async for piece in page.html():
                self.write(piece)
                await self.flush()
        except StreamClosedError:  # gone before the page was complete
            await kernels.end(page.kernel_id)
        else:
            kernels.expect(page)

    def _refuse(self, pages: int) -> None:
        self.set_status(503)
        self.set_header("Retry-After", str(RETRY))
        self.finish(render(self, "full.html", pages=pages, retry=RETRY))


class StateHandler(APIHandler):
    """Tells a page whether its kernel is still there."""

    @tornado.web.authenticated
    async def get(self, kernel_id: str) -> None:
        """Answer with ``PageKernels.state``."""
        self.set_header("Cache-Control", "no-store")
        kernels: Any = self.kernel_manager
        self.finish(kernels.state(kernel_id))


def render(handler: JupyterHandler, name: str, **values: Any) -> str:
    """Return one of the template folder's plain pages."""
    template = handler.settings["voila_jinja2_env"].get_template(name)
    text: str = template.render(base_url=handler.base_url, **values)
    return text
