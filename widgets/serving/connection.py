"""Websockets between page and kernel, without the delays and leaks of the stock ones."""

from __future__ import annotations

from typing import Any

from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from tornado.ioloop import IOLoop
from traitlets import Bool, Float


class PromptConnection(ZMQChannelsWebsocketConnection):
    """Sends each message at once: with Nagle's algorithm on, every slider event waits some 40 ms."""

    def connect(self) -> Any:
        """Connect with TCP_NODELAY set."""
        self.websocket_handler.set_nodelay(True)
        return super().connect()


class PageConnection(PromptConnection):
    """Ends the kernel when its page has been gone for a while, for pages that could not say goodbye."""

    grace = Float(30.0, config=True, help="Seconds a page may be gone: a lost network that comes back.")
    _connected = Bool(False)

    def connect(self) -> Any:
        """Connect, and let the kernels know."""
        self._connected = True
        self.multi_kernel_manager.connected(self.kernel_id, self)
        return super().connect()

    def disconnect(self) -> None:  # type: ignore[override]
        """Disconnect, and look again after the grace."""
        kernels = self.multi_kernel_manager
        if not self._connected:  # given up while connecting; the stock count would go one too low
            kernels.notify_connect(self.kernel_id)
        self._connected = False
        kernels.disconnected(self.kernel_id, self)
        super().disconnect()  # type: ignore[no-untyped-call]
        IOLoop.current().call_later(self.grace, kernels.end_if_left, self.kernel_id)
