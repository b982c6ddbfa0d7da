"""What each cut costs: time on the device, bytes and time on the wire, time on the server.

Times of the halves are measured here, one image on one thread, as medians of runs in turns; the device's
is scaled by how much slower it is than this machine, the server's by how much faster. Bytes are those of
real values of test images, rounded and coded as ``wire`` sends them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workbench.measure.latency.measured import median_interval, time_once
from workbench.run.runner import OnnxRunner

from .parts import Part, parts_of
from .wire import Grid, SplitError

if TYPE_CHECKING:
    from onnx import ModelProto

_ROUNDS, _WARM = 25, 3
#: A message's head and an answer, which every request sends besides the value.
_FRAME, _ANSWER = 9, 4


@dataclass(frozen=True)
class Network:
    """A link: megabits a second from device to server, and milliseconds for there and back."""

    name: str
    mbps: float
    rtt_ms: float

    def ms(self, nbytes: float) -> float:
        """Return the milliseconds until an answer to ``nbytes`` is back, without the server's work."""
        return self.rtt_ms + 8 * nbytes / (1000 * self.mbps)


#: Round figures for links of a kind, not measurements; a person's own is given by numbers.
NETWORKS: Mapping[str, Network] = {
    network.name: network
    for network in (
        Network("ble", 0.7, 30.0), Network("3g", 1.5, 90.0), Network("4g", 10.0, 45.0), Network("5g", 30.0, 25.0),
        Network("wifi", 40.0, 8.0), Network("ethernet", 940.0, 1.0),
    )
}  # fmt: skip


@dataclass(frozen=True)
class CutCost:
    """One cut's figures for one image; ``agreement`` is the share of answers that rounding leaves the same."""

    name: str
    shape: tuple[int, ...]
    bytes: float
    raw_bytes: int
    device_ms: float
    network_ms: float
    server_ms: float
    agreement: float

    @property
    def total_ms(self) -> float:
        """Milliseconds from image to answer."""
        return self.device_ms + self.network_ms + self.server_ms

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "shape": list(self.shape), "total_ms": self.total_ms}


@dataclass(frozen=True)
class SplitPlan:
    """All cuts from all-on-the-server to all-on-the-device, and the quickest."""

    cuts: tuple[CutCost, ...]
    network: Network
    slowdown: float
    bits: int
    images: int

    @property
    def best(self) -> CutCost:
        """The cut with the least time from image to answer."""
        return min(self.cuts, key=lambda cut: cut.total_ms)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "network": asdict(self.network), "slowdown": self.slowdown, "bits": self.bits, "images": self.images,
            "best": self.best.name, "cuts": [cut.to_json() for cut in self.cuts],
        }  # fmt: skip


def plan_split(
    model: ModelProto,
    calibration: Tensor,
    images: Tensor,
    network: Network,
    *,
    slowdown: float = 1.0,
    speedup: float = 1.0,
    bits: int = 8,
    tell: Callable[[float], None] = lambda share: None,
) -> SplitPlan:
    """Return what each cut of ``model`` costs over ``network``.

    Args:
        model: an ONNX model of one input and one output.
        calibration: normalised images whose values span the grids.
        images: normalised images that bytes and agreement are measured on.
        network: the link.
        slowdown: how many times slower the device runs a model than this machine on one thread.
        speedup: how many times faster the server does.
        bits: of each value that is sent, 1 to 8.
        tell: hears the share that is done.

    Raises:
        SplitError: a number is out of its range.
    """
    if not 1 <= bits <= 8:
        raise SplitError(f"Values are sent in 1 to 8 bits, not {bits}.")
    if slowdown <= 0 or speedup <= 0 or network.mbps <= 0 or network.rtt_ms < 0:
        raise SplitError("A device's slowdown, a server's speedup and a network's speed must be positive.")
    parts = parts_of(model)
    whole = OnnxRunner(model, 1).logits(images).argmax(1)
    measured = []
    for place, part in enumerate(parts):
        measured.append(_measure(part, calibration, images, whole, bits))
        tell((place + 1) / (len(parts) + 1))
    times = _time_halves(parts, images[:1])
    cuts = []
    for part, (shape, nbytes, raw, same), (head, tail) in zip(parts, measured, times, strict=True):
        sent = 0.0 if part.tail is None else network.ms(nbytes + _FRAME)
        cuts.append(CutCost(part.name, shape, nbytes, raw, head * slowdown, sent, tail / speedup, same))
    tell(1.0)
    return SplitPlan(tuple(cuts), network, slowdown, bits, len(images))


def grid_of(part: Part, calibration: Tensor, bits: int) -> Grid:
    """Return the grid of the value sent at a cut."""
    return Grid.around(_head(part, calibration), bits)


def _measure(
    part: Part, calibration: Tensor, images: Tensor, answers: NDArray[np.int64], bits: int
) -> tuple[tuple[int, ...], float, int, float]:
    """Return the value's shape, its mean bytes coded and as floats, and the share of answers kept."""
    values = _head(part, images)
    if part.tail is None:
        return values.shape[1:], 0.0, 0, 1.0
    grid = grid_of(part, calibration, bits)
    nbytes = statistics.fmean(len(grid.encode(value[None])) for value in values)
    found = OnnxRunner(part.tail, 1).run(grid.rounded(values))[0].argmax(1)
    return values.shape[1:], nbytes, values[0].nbytes, float((found == answers).mean())


def _head(part: Part, images: Tensor) -> NDArray[np.float32]:
    return images.numpy() if part.head is None else OnnxRunner(part.head, 1).run(images.numpy())[0]


def _time_halves(parts: Sequence[Part], image: Tensor) -> list[tuple[float, float]]:
    """Return each part's milliseconds before and behind the cut, measured in turns."""
    runs: list[Callable[[], object]] = []
    for part in parts:
        value = _head(part, image)
        runs.append(_runner(part.head, image.numpy()))
        runs.append(_runner(part.tail, value))
    for run in runs:
        for _ in range(_WARM):
            run()
    rounds = [[time_once(run) / 1e6 for run in runs] for _ in range(_ROUNDS)]
    medians = [median_interval(column)[1] for column in zip(*rounds, strict=True)]
    return [
        (medians[2 * place] if part.head is not None else 0.0, medians[2 * place + 1] if part.tail is not None else 0.0)
        for place, part in enumerate(parts)
    ]


def _runner(model: ModelProto | None, value: NDArray[np.float32]) -> Callable[[], object]:
    if model is None:
        return lambda: None
    runner = OnnxRunner(model, 1)
    return lambda: runner.run(value)
