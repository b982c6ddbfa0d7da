"""Voila's application with its own way of listening: one port or a clear sentence, and the URL printed."""

from __future__ import annotations

import errno
import os
import socket
import webbrowser
from collections.abc import Iterator
from typing import Any

import tornado.httpserver
import tornado.ioloop
import tornado.netutil
from voila.app import Voila

from .app import ServingError, announce


class Server(Voila):
    """Serves one notebook."""

    name = "voila"
    wanted_ports: Iterator[int] = iter(())

    def start(self) -> None:
        """Take a port before any kernel is started, then serve until stopped."""
        self._sockets = self._take_port()
        self.port = self._sockets[0].getsockname()[1]
        super().start()

    def listen(self) -> None:
        """Serve on the sockets taken, until interrupted; then end every kernel."""
        tornado.httpserver.HTTPServer(self.app).add_sockets(self._sockets)
        announce(self.page_url)
        if self.open_browser:
            self.launch_browser()
        self.ioloop = tornado.ioloop.IOLoop.current()
        try:
            self.ioloop.start()
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    @property
    def page_url(self) -> str:
        """Where a browser finds the page, with the token where one is asked for."""
        host = socket.gethostname() if self.ip in ("", "0.0.0.0", "::") else self.ip
        token = self.identity_provider.token
        return f"http://{host}:{self.port}{self.base_url}" + (f"?token={token}" if token else "")

    def launch_browser(self) -> None:
        """Open the page, where there is a browser and a screen to show it on."""
        if (
            os.name == "posix"
            and os.uname().sysname == "Linux"
            and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
        ):
            return
        tornado.ioloop.IOLoop.current().run_in_executor(None, webbrowser.open, self.page_url)

    def _take_port(self) -> list[socket.socket]:
        tried = []
        for port in self.wanted_ports:
            try:
                return self._bind(port)
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                    raise
                tried.append(str(port))
        raise ServingError(
            f"Port {', '.join(tried)} is taken or not allowed: choose another with --port, or 0 for any."
        )

    def _bind(self, port: int) -> list[Any]:
        # "localhost" may be two addresses, which with port 0 would get two ports.
        return list(tornado.netutil.bind_sockets(port, "127.0.0.1" if self.ip == "localhost" else self.ip))
