"""Voila's application with its own way of listening, and with no handler that the page can do without."""

from __future__ import annotations

import errno
import os
import re
import socket
import webbrowser
from collections.abc import Iterator
from typing import Any

import tornado.httpserver
import tornado.ioloop
import tornado.netutil
from jupyter_server.base.handlers import FileFindHandler
from jupyter_server.services.kernels.handlers import KernelHandler
from voila.app import Voila
from voila.shutdown_kernel_handler import VoilaShutdownKernelHandler
from voila.static_file_handler import MultiStaticFileHandler, TemplateStaticFileHandler
from voila.tornado.kernel_websocket_handler import VoilaKernelWebsocketHandler

from .app import EXTENSIONS, ServingError, announce
from .identity import LoginHandler, guarded
from .page import PageHandler, StateHandler

_KERNEL = r"(?P<kernel_id>[\w-]+)"


class Server(Voila):
    """Serves one notebook."""

    name = "voila"
    wanted_ports: Iterator[int] = iter(())

    @property
    def notebook_name(self) -> str:
        """The notebook's path, seen from the folder it is served from."""
        return os.path.relpath(self.notebook_path, self.root_dir)

    def init_handlers(self) -> list[Any]:
        """Return what the page asks for, every part of it behind the token where there is one."""
        extensions = "|".join(map(re.escape, EXTENSIONS))
        files: dict[str, tuple[Any, dict[str, Any]]] = {
            r"voila/templates/(.*)": (TemplateStaticFileHandler, {}),
            r"voila/static/(.*)": (MultiStaticFileHandler, {"paths": self.static_paths}),
            rf"voila/labextensions/((?:{extensions})/.*)": (
                FileFindHandler,
                {"path": self.labextensions_path, "no_cache_paths": ["/"]},
            ),
        }
        handlers: dict[str, Any] = {
            r"": PageHandler,
            r"login": LoginHandler,
            rf"voila/page/{_KERNEL}": StateHandler,
            rf"api/kernels/{_KERNEL}": KernelHandler,
            rf"api/kernels/{_KERNEL}/channels": VoilaKernelWebsocketHandler,
            rf"voila/api/shutdown/{_KERNEL}": VoilaShutdownKernelHandler,
        }
        base = re.escape(self.base_url)
        return [
            *((base + path, handler) for path, handler in handlers.items()),
            *((base + path, guarded(handler), options) for path, (handler, options) in files.items()),
        ]

    def start(self) -> None:
        """Take a port before any kernel is started, then serve until stopped."""
        self._sockets = self._take_port()
        self.port = self._sockets[0].getsockname()[1]
        super().start()

    def listen(self) -> None:
        """Serve on the sockets taken, until interrupted; then end every kernel."""
        tornado.httpserver.HTTPServer(self.app, xheaders=True).add_sockets(self._sockets)
        announce(self.page_url)
        if self.open_browser:
            self.launch_browser()
        self.ioloop = tornado.ioloop.IOLoop.current()
        self.ioloop.add_callback(self.kernel_manager.refill)
        try:
            self.ioloop.start()
        except KeyboardInterrupt:
            pass
        finally:
            self.ioloop.run_sync(self.kernel_manager.shutdown_all)
            self.stop()

    @property
    def page_url(self) -> str:
        """Where a browser finds the page, with the token where one is asked for."""
        host = socket.gethostname() if self.ip in ("", "0.0.0.0", "::") else self.ip
        host = f"[{host}]" if ":" in host else host
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
                if error.errno not in (errno.EADDRINUSE, errno.EACCES):  # another port would not help
                    raise ServingError(
                        f"--ip: '{self.ip}' cannot be listened on ({error.strerror or error}): give an address of this "
                        "machine, or 0.0.0.0 for all."
                    ) from error
                tried.append(str(port))
        raise ServingError(
            f"Port {', '.join(tried)} is taken or not allowed: choose another with --port, or 0 for any."
        )

    def _bind(self, port: int) -> list[Any]:
        # "localhost" may be two addresses, which with port 0 would get two ports.
        return list(tornado.netutil.bind_sockets(port, "127.0.0.1" if self.ip == "localhost" else self.ip))
