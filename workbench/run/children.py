"""What a process of ours is started with."""

from __future__ import annotations

import os
import sys


def child_environment(threads: int | None = None) -> dict[str, str]:
    """Return the environment of a Python process that imports what this one does.

    Its idle threads sleep rather than spin; ``threads`` bounds how many a library starts.
    """
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return environment
