"""A split run for real: a server process, this process as the device, a socket between them."""

from __future__ import annotations

import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from workbench.run.runner import OnnxRunner

from .device import SplitDevice, served
from .parts import Part
from .plan import grid_of
from .wire import SplitError


@dataclass(frozen=True)
class Trial:
    """``equal``: whether every answer is, to the digit, what one process gives with the same rounding.

    ``ms`` is the median time of an image over the loopback network, ``bytes`` the mean sent for one.
    """

    cut: str
    images: int
    equal: bool
    ms: float
    bytes: float

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def try_split(part: Part, calibration: Tensor, images: Tensor, bits: int = 8) -> Trial:
    """Run normalised ``images`` through two processes; raises ``SplitError`` where there is nothing to split."""
    if part.tail is None:
        raise SplitError(f"At '{part.name}' everything runs on the device: there is nothing to send.")
    grid = grid_of(part, calibration, bits)
    values = images.numpy() if part.head is None else OnnxRunner(part.head, 1).logits(images)
    tail = OnnxRunner(part.tail, 1)
    wanted = np.concatenate([tail.run(grid.rounded(value[None]))[0] for value in values])
    with served(part, grid) as (address, _):
        device = SplitDevice(part.head, grid, address)
        found, times = [], []
        for image in images.split(1):
            start = time.perf_counter()
            found.append(device.logits(image))
            times.append(1000 * (time.perf_counter() - start))
        device.close()
    equal = bool(np.array_equal(np.concatenate(found), wanted))
    return Trial(part.name, len(images), equal, statistics.median(times), device.sent / len(images))
