"""Coding encodings on a thread beside the one that goes on searching.

An ANS code and Zstandard take most of what a search for a deep model's encodings takes, and hold no lock of Python's
meanwhile. So what has been chosen is coded beside the search for the next ones.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from types import TracebackType

from workbench.encodings.base import Encoding


class Coder:
    """Codes what it is given on a second thread; leaving it, the first one helps until all is coded.

    Where it is left by an exception, what is not begun is left out.
    """

    def __init__(self) -> None:
        self._due: SimpleQueue[Encoding | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def code(self, chosen: Iterable[Encoding]) -> None:
        """Begin to code ``chosen`` behind what was given before, in this order."""
        for encoding in chosen:
            self._due.put(encoding)
        if self._thread is None and not self._due.empty():  # one for all batches: starting it waits for Python's lock
            self._thread = threading.Thread(target=self._work, name="workbench-coding", daemon=True)
            self._thread.start()

    def __enter__(self) -> Coder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(Empty):
            while (encoding := self._due.get_nowait()) is not None:
                if kind is None:
                    encoding.entry  # noqa: B018  # kept by the encoding
        self._due.put(None)
        if kind is None:
            self.join()

    def join(self) -> None:
        """Wait until the second thread has done what it began."""
        if self._thread:
            self._thread.join()

    def _work(self) -> None:
        while (encoding := self._due.get()) is not None:
            encoding.entry  # noqa: B018  # kept by the encoding
