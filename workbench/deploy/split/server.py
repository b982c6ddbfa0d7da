"""The server's side: the layers behind the cut, for any number of devices.

``python -m workbench.deploy.split.server FOLDER`` serves what ``write_split`` put there, prints the address
once it listens, and ends on SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import sys
from pathlib import Path

import numpy as np

from workbench.run.runner import OnnxRunner

from .wire import Grid, Kind, SplitError, receive, send

TAIL, HEAD, CUT = "tail.onnx", "head.onnx", "cut.json"


class SplitServer(socketserver.ThreadingTCPServer):
    """Answers values with logits; each device's connection has a thread, the model runs one image at a time."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, tail: bytes, grid: Grid, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes a free one. Raises ``SplitError`` where the address is in use, or none."""
        self.runner, self.grid = OnnxRunner(tail, 1), grid
        try:
            super().__init__((host, port), _Connection)
        except (OSError, OverflowError) as error:
            reason = (getattr(error, "strerror", None) or "ports are 0 to 65535").lower()
            raise SplitError(f"Nothing can listen at {host}:{port}: {reason}; choose another port.") from error

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.server_address[:2]
        return str(host), int(port)


class _Connection(socketserver.BaseRequestHandler):
    server: SplitServer

    def handle(self) -> None:
        link: socket.socket = self.request
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            while (message := receive(link)) is not None:
                try:
                    logits = self.server.runner.run(self.server.grid.decode(message[1]))[0]
                    send(link, Kind.ANSWER, np.ascontiguousarray(logits, "<f4").tobytes())
                except SplitError as refused:
                    send(link, Kind.REFUSAL, str(refused).encode())


def main() -> int:
    """Serve one folder until the process is ended."""
    folder = Path(sys.argv[1])
    cut = json.loads((folder / CUT).read_text(encoding="utf-8"))
    grid = Grid(tuple(cut["shape"]), cut["bits"], cut["low"], cut["step"])
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    try:
        server = SplitServer((folder / TAIL).read_bytes(), grid, port=port)
    except SplitError as refused:
        print(f"workbench: {refused}", file=sys.stderr)
        return 2
    host, port = server.address
    print(f"{host}:{port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever(poll_interval=0.05)
    return 0


if __name__ == "__main__":
    sys.exit(main())
