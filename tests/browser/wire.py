"""A line to a server that can be cut and mended, as a network does."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit


class Wire:
    """Forwards connections to a server's port; while it is cut there are none."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._down = False
        self._dead = False
        threading.Thread(target=self._accept, daemon=True).start()

    def through(self, url: str) -> str:
        """Return ``url`` as it is reached through this wire."""
        port = self._listener.getsockname()[1]
        return urlunsplit(urlsplit(url)._replace(netloc=f"127.0.0.1:{port}"))

    def go_dead(self) -> None:
        """Swallow what is sent either way, while every connection looks alive."""
        self._dead = True

    def cut(self) -> None:
        """Drop every connection and refuse new ones."""
        with self._lock:
            self._down = True
            ends, self._ends = self._ends, set()
        for end in ends:
            _close(end)

    def mend(self) -> None:
        self._down = self._dead = False

    def close(self) -> None:
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._down:
                    _close(near)
                    continue
                far = socket.create_connection(("127.0.0.1", self._target))
                self._ends |= {near, far}
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                if not self._dead:
                    sink.sendall(data)
        for end in (source, sink):
            _close(end)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


@contextmanager
def wire_to(url: str) -> Iterator[Wire]:
    wire = Wire(urlsplit(url).port or 80)
    yield wire
    wire.close()
