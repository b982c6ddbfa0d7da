"""The device's side: the layers before the cut, and the wire."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workbench.run.children import child_environment
from workbench.run.runner import OnnxRunner

from .parts import Part
from .server import CUT, HEAD, TAIL
from .wire import Grid, Kind, SplitError, receive, send

if TYPE_CHECKING:
    from onnx import ModelProto

SECONDS = 10.0


class SplitDevice:
    """Runs images up to the cut here and asks the server for the rest; a ``Runner``.

    A request that the server does not answer raises ``SplitError`` and closes the connection; the next one
    connects anew. With ``alone``, the layers behind the cut are here too, and are run where the server is
    gone: the answer comes, slower. ``sent`` counts bytes, ``alone_for`` the images that were finished here.
    """

    runtime = "split"

    def __init__(
        self,
        head: ModelProto | bytes | None,
        grid: Grid,
        address: tuple[str, int],
        *,
        seconds: float = SECONDS,
        alone: ModelProto | bytes | None = None,
    ) -> None:
        self._head = None if head is None else OnnxRunner(head, 1)
        self._alone = None if alone is None else OnnxRunner(alone, 1)
        self._grid, self._address, self._seconds = grid, address, seconds
        self._link: socket.socket | None = None
        self.sent = self.alone_for = 0

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        """Return the logits ``(N, classes)`` of normalised ``images``, asked for one at a time."""
        return np.concatenate([self._one(image) for image in images.split(1)])

    def stop(self) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up; the next request connects anew."""
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _one(self, image: Tensor) -> NDArray[np.float32]:
        value = image.numpy() if self._head is None else self._head.run(image.numpy())[0]
        body = self._grid.encode(value)
        try:
            return self._ask(body)
        except OSError as error:
            self.close()
            if self._alone is not None:
                self.alone_for += 1
                return self._alone.run(self._grid.decode(body))[0]
            host, port = self._address
            reason = "it did not answer in time" if isinstance(error, TimeoutError) else (error.strerror or str(error))
            raise SplitError(
                f"The server at {host}:{port} is gone ({reason}): start it again and ask once more."
            ) from error

    def _ask(self, body: bytes) -> NDArray[np.float32]:
        if self._link is None:
            self._link = socket.create_connection(self._address, self._seconds)
            self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        send(self._link, Kind.VALUE, body)
        self.sent += len(body)
        answer = receive(self._link)
        if answer is None:
            raise ConnectionError("it closed the connection")
        kind, content = answer
        if kind is Kind.REFUSAL:
            raise SplitError(f"The server refused: {content.decode()}")
        return np.frombuffer(content, "<f4").reshape(1, -1)


def write_split(part: Part, grid: Grid, folder: Path) -> None:
    """Write the two halves and the grid between them into ``folder``, each side's files as it needs them."""
    assert part.tail is not None
    folder.mkdir(parents=True, exist_ok=True)
    if part.head is not None:
        (folder / HEAD).write_bytes(part.head.SerializeToString(deterministic=True))
    (folder / TAIL).write_bytes(part.tail.SerializeToString(deterministic=True))
    (folder / CUT).write_text(json.dumps({"name": part.name, **asdict(grid)}, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def served(part: Part, grid: Grid) -> Iterator[tuple[tuple[str, int], subprocess.Popen[str]]]:
    """Serve a part's tail from a process of its own; gives its address and the process."""
    with tempfile.TemporaryDirectory() as folder:
        write_split(part, grid, Path(folder))
        process = subprocess.Popen(
            [sys.executable, "-m", "workbench.deploy.split.server", folder], stdout=subprocess.PIPE,
            env=child_environment(), text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            host, _, port = process.stdout.readline().strip().partition(":")
            if not port:
                raise SplitError("The server's process ended before it listened.")
            yield (host, int(port)), process
        finally:
            process.terminate()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
