"""Keeping Python's garbage collector from halting a slider.

A full collection walks everything alive: PyTorch, ONNX and their caches make 200,000 objects and more, a
tenth of a second, and moving a slider through a deep model brings one on every few moves. What is alive
when a Session opens is there to stay, so it is left out of collections until the last one closes.
"""

from __future__ import annotations

import gc
import threading

_lock = threading.Lock()
_open = 0


def hold() -> None:
    """Leave out of collections what is alive now, until as many ``release`` calls."""
    global _open
    with _lock:
        _open += 1
        gc.freeze()


def release() -> None:
    """Undo one ``hold``; what has become garbage meanwhile can be collected again."""
    global _open
    with _lock:
        _open -= 1
        gc.unfreeze()
        if _open:  # the others keep their peace, without what this one leaves behind
            gc.collect()
            gc.freeze()
