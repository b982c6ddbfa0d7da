"""Computing on one thread: to time single images and layers, and where several would only wait for each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

#: Values of a matrix up to which NumPy's linear algebra is sooner done on one thread than on several that must meet.
SMALL = 2**18


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch compute on one thread while inside; the rest of the program keeps its own number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def one_openmp_thread() -> Iterator[None]:
    """Let PyTorch's own operations compute on one thread in the thread that is inside; others keep their number.

    Small tensors are done before a second thread has woken up, and where others want the processor, one waits for it
    at each operation.
    """
    torch.get_num_threads()  # what else sets this thread's number at its first operation
    with _libraries("openmp").limit(limits=1):
        yield


@contextmanager
def one_blas_thread(values: int) -> Iterator[None]:
    """Let NumPy's linear algebra on so many ``values`` compute on one thread while inside, where those are few.

    Its threads spin while they wait for each other: where images run beside, a decomposition of 2 ms takes 200. The
    number belongs to the process: where several threads are inside, the first one sets it and puts it back.
    """
    if values > SMALL:
        yield
        return
    with _libraries("blas").limit(limits=1):
        yield


@cache
def _libraries(kind: str) -> Any:
    """Return the handle on the libraries that compute on several threads; finding them takes 10 ms."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api=kind)
