"""Keeping Python's garbage collector from halting a slider.

A full collection walks everything alive: PyTorch, ONNX and their caches make 200,000 objects and more, a
tenth of a second, and moving a slider through a deep model brings one on every few moves. What is alive
when a Session opens is there to stay, so it is left out of collections until the last one closes; so is, from each
quiet moment on, what later moves will ask for again. While a size is found nothing is collected.

What is collected may have a last word: a forgotten generator closes the session that it opened, on the thread that
collects. So nothing is held while collecting, and how many are open is asked again afterwards.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: Seconds after which a quiet moment is used to look through what was left out, too.
WHOLE = 600.0

_lock = threading.RLock()  # collected inside, if by chance, a last word finds it open
_open = 0
_put_off = 0
_looked_through = 0.0


def hold() -> None:
    """Leave out of collections what is alive now, until as many ``release`` calls."""
    global _open, _looked_through
    with _lock:
        _open += 1
        _looked_through = time.monotonic()
        gc.freeze()


def release() -> None:
    """Undo one ``hold``; what has become garbage meanwhile can be collected again."""
    global _open
    with _lock:
        _open -= 1
        gc.unfreeze()
        others = _open
    if others:  # they keep their peace, without what this one leaves behind
        _collect()


def tidy() -> None:
    """Collect in a quiet moment what later moves would halt for, and leave out what is alive now, if it is held."""
    global _looked_through
    with _lock:
        if not _open or _put_off:
            return
        if time.monotonic() - _looked_through > WHOLE:
            _looked_through = time.monotonic()
            gc.unfreeze()
    _collect()


def _collect() -> None:
    """Collect, and leave out of later collections what is alive then, if it is still held."""
    gc.collect()
    with _lock:
        if _open:
            gc.freeze()


@contextmanager
def put_off() -> Iterator[None]:
    """Collect nothing inside, which must be short; where someone else has turned the collector off, it stays off."""
    global _put_off
    with _lock:
        turned_off = gc.isenabled() or _put_off > 0
        _put_off += turned_off
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _put_off -= turned_off
            if turned_off and not _put_off:
                gc.enable()
