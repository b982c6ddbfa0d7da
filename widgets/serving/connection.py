"""Websockets between page and kernel, without the delays and leaks of the stock ones."""

from __future__ import annotations

from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.ioloop import IOLoop
from traitlets import Float


class PromptConnection(ZMQChannelsWebsocketConnection):
    """Sends each message at once: with Nagle's algorithm on, every slider event waits some 40 ms."""

    def connect(self) -> Any:
        """Connect with TCP_NODELAY set."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()


class PageConnection(PromptConnection):
    """Ends the kernel when its page has been gone for a while, for pages that could not say goodbye."""

    grace = Float(30.0, config=True, help="Seconds a page may be gone: a lost network that comes back.")

    def disconnect(self) -> None:  # type: ignore[override]
        """Disconnect, and look again after the grace."""
        super().disconnect()  # type: ignore[no-untyped-call]
        IOLoop.current().call_later(self.grace, self._end_if_left)

    async def _end_if_left(self) -> None:
        kernels = self.multi_kernel_manager
        if self.kernel_id in kernels and not kernels.state(self.kernel_id).get("connected"):
            await kernels.end(self.kernel_id)
