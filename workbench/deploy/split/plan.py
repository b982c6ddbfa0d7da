"""What each cut costs: time on the device, bytes and time on the wire, time on the server.

Times of the halves are measured here, one image on one thread, as medians of runs in turns; the device's
is scaled by how much slower it is than this machine, the server's by how much faster: see ``machines``. Bytes
are those of real values of test images, rounded and coded as ``wire`` sends them.
"""

from __future__ import annotations

import math
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
class CutFigures:
    """What was measured of a cut, for one image: on this machine, whatever the device and the link will be.

    ``sends``: whether anything goes over the link; ``agreement`` is the share of answers that rounding leaves the
    same.
    """

    name: str
    shape: tuple[int, ...]
    sends: bool
    bytes: float
    raw_bytes: int
    head_ms: float
    tail_ms: float
    agreement: float


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
    speedup: float
    bits: int
    images: int

    @property
    def best(self) -> CutCost:
        """The cut with the least time from image to answer."""
        return min(self.cuts, key=lambda cut: cut.total_ms)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "network": asdict(self.network), "slowdown": self.slowdown, "speedup": self.speedup, "bits": self.bits,
            "images": self.images, "best": self.best.name, "cuts": [cut.to_json() for cut in self.cuts],
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
    _require(network, slowdown, speedup)
    figures = measure_cuts(model, calibration, images, bits, tell)
    return price_cuts(figures, network, slowdown=slowdown, speedup=speedup, bits=bits, images=len(images))


def price_cuts(
    figures: Sequence[CutFigures],
    network: Network,
    *,
    slowdown: float = 1.0,
    speedup: float = 1.0,
    bits: int = 8,
    images: int = 0,
) -> SplitPlan:
    """Return what measured cuts cost over ``network``; nothing is run. Arguments and errors as in ``plan_split``."""
    _require(network, slowdown, speedup)
    cuts = tuple(
        CutCost(
            cut.name, cut.shape, cut.bytes, cut.raw_bytes, cut.head_ms * slowdown,
            network.ms(cut.bytes + _FRAME) if cut.sends else 0.0, cut.tail_ms / speedup, cut.agreement,
        )
        for cut in figures
    )  # fmt: skip
    return SplitPlan(cuts, network, slowdown, speedup, bits, images)


def measure_cuts(
    model: ModelProto,
    calibration: Tensor,
    images: Tensor,
    bits: int = 8,
    tell: Callable[[float], None] = lambda share: None,
) -> tuple[CutFigures, ...]:
    """Return what ``plan_split`` measures of each cut of ``model``; ``tell`` may raise to give up."""
    if not 1 <= bits <= 8:
        raise SplitError(f"Values are sent in 1 to 8 bits, not {bits}.")
    parts = parts_of(model)
    halves = [_Halves.of(part) for part in parts]  # loading them takes as long as running them
    whole = OnnxRunner(model, 1).logits(images).argmax(1)
    measured = []
    for place, both in enumerate(halves):
        measured.append(_measure(both, calibration, images, whole, bits))
        tell((place + 1) / (len(parts) + 1))
    times = _time_halves(halves, images[:1], lambda share: tell((len(parts) + share) / (len(parts) + 1)))
    return tuple(
        CutFigures(part.name, shape, part.tail is not None, nbytes, raw, head, tail, same)
        for part, (shape, nbytes, raw, same), (head, tail) in zip(parts, measured, times, strict=True)
    )


def _require(network: Network, slowdown: float, speedup: float) -> None:
    numbers = (slowdown, speedup, network.mbps, network.rtt_ms)
    if not all(map(math.isfinite, numbers)) or min(numbers[:3]) <= 0 or network.rtt_ms < 0:
        raise SplitError(
            "A device's slowdown, a server's speedup and a network's speed must be positive, its delay 0 ms or more."
        )


def grid_of(part: Part, calibration: Tensor, bits: int) -> Grid:
    """Return the grid of the value sent at a cut."""
    return Grid.around(_Halves.of(part).value(calibration), bits)


@dataclass(frozen=True)
class _Halves:
    """What runs before and behind a cut; None where nothing does."""

    head: OnnxRunner | None
    tail: OnnxRunner | None

    @classmethod
    def of(cls, part: Part) -> _Halves:
        return cls(*(None if model is None else OnnxRunner(model, 1) for model in (part.head, part.tail)))

    def value(self, images: Tensor) -> NDArray[np.float32]:
        return images.numpy() if self.head is None else self.head.logits(images)


def _measure(
    halves: _Halves, calibration: Tensor, images: Tensor, answers: NDArray[np.int64], bits: int
) -> tuple[tuple[int, ...], float, int, float]:
    """Return the value's shape, its mean bytes coded and as floats, and the share of answers kept."""
    values = halves.value(images)
    if halves.tail is None:
        return values.shape[1:], 0.0, 0, 1.0
    grid = Grid.around(halves.value(calibration), bits)
    nbytes = statistics.fmean(len(grid.encode(value[None])) for value in values)
    found = halves.tail.run(grid.rounded(values))[0].argmax(1)
    return values.shape[1:], nbytes, values[0].nbytes, float((found == answers).mean())


def _time_halves(halves: Sequence[_Halves], image: Tensor, tell: Callable[[float], None]) -> list[tuple[float, float]]:
    """Return each cut's milliseconds before and behind it, measured in turns."""
    runs: list[Callable[[], object]] = []
    for both in halves:
        runs += [_run(both.head, image.numpy()), _run(both.tail, both.value(image))]
    for run in runs:
        for _ in range(_WARM):
            run()
    rounds = []
    for place in range(_ROUNDS):
        rounds.append([time_once(run) / 1e6 for run in runs])
        tell((place + 1) / _ROUNDS)
    medians = [median_interval(column)[1] for column in zip(*rounds, strict=True)]
    return [
        (medians[2 * place] if both.head else 0.0, medians[2 * place + 1] if both.tail else 0.0)
        for place, both in enumerate(halves)
    ]


def _run(runner: OnnxRunner | None, value: NDArray[np.float32]) -> Callable[[], object]:
    return (lambda: None) if runner is None else (lambda: runner.run(value))
