"""A Runner around whatever a runtime offers to be called with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workbench.run.runner import Stopped

Call = Callable[[Tensor], NDArray[np.float32]]


class CallRunner:
    """Runs images by ``call``: a whole batch at once, or one by one where the file was made for one image."""

    def __init__(self, runtime: str, call: Call, one_by_one: bool = False) -> None:
        self.runtime = runtime
        self._call, self._one_by_one = call, one_by_one
        self._stopped = False

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        """Return the logits of one batch."""
        if self._stopped:
            raise Stopped
        if not self._one_by_one:
            return np.array(self._call(images), np.float32)
        return np.concatenate([np.array(self._call(images[place : place + 1])) for place in range(len(images))])

    def stop(self) -> None:
        """Raise ``Stopped`` at the next batch."""
        self._stopped = True
