"""How much slower, or faster, a chosen machine runs a model than this one: the scale of a split's halves.

This machine is measured, one image on one thread; the others are what ``workbench devices`` describes, predicted
from published measurements and from data sheets, with the interval that such a prediction has. Both are of the
model in floats, as the halves run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from workbench.measure.devices import Target, Work, find_target, work_of
from workbench.measure.devices.roofline import Dtype
from workbench.measure.devices.target import dtype_of
from workbench.measure.latency.measured import median_interval, time_once
from workbench.run.runner import OnnxRunner

if TYPE_CHECKING:
    from onnx import ModelProto

HERE = "this-machine"
_ROUNDS, _WARM = 25, 3


@dataclass(frozen=True)
class Yardstick:
    """A model as described devices see it, and the milliseconds that an image took here on one thread."""

    work: Work
    dtype: Dtype
    ms: float

    @classmethod
    def of(cls, model: ModelProto, image: Tensor) -> Yardstick:
        """Time ``model``, of one input and one output, on a normalised ``image`` ``(1, C, H, W)``.

        Give it without the rounding of activations that a simulation adds: no device would run that.
        """
        from workbench.measure.latency import fused_kernels

        kernels = fused_kernels(model.SerializeToString(), block=0)
        runner, value = OnnxRunner(model, 1), image.numpy()
        for _ in range(_WARM):
            runner.run(value)
        times = [time_once(lambda: runner.run(value)) / 1e6 for _ in range(_ROUNDS)]
        return cls(work_of(kernels), dtype_of(kernels), median_interval(times)[1])


@dataclass(frozen=True)
class Pace:
    """``slower``: a machine's time for a model ÷ this machine's, below 1 where it is faster.

    ``low`` and ``high`` are its 90 % interval, ``anchors`` the measurements on it that the prediction rests on.
    """

    device: str
    title: str
    slower: float
    low: float
    high: float
    anchors: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)

    @property
    def sentence(self) -> str:
        """How sure it is, in words; empty for this machine."""
        if self.device == HERE:
            return ""
        rests = "published measurements on it" if self.anchors else "its data sheet alone"
        takes = f"{self.slower:.3g} ({self.low:.3g} to {self.high:.3g}) times as long as this machine"
        return f"{self.title} takes {takes}, predicted from {rests}."


def pace_of(device: str, yardstick: Yardstick) -> Pace:
    """Return the pace of ``device``; raises ``DeviceError`` where there is none of that name."""
    return _here() if device == HERE else _pace(find_target(device), yardstick)


def paces(targets: Sequence[Target], yardstick: Yardstick) -> tuple[Pace, ...]:
    """Return the pace of this machine, which is 1, and of each of ``targets``."""
    return (_here(), *(_pace(target, yardstick) for target in targets))


def _here() -> Pace:
    return Pace(HERE, "this machine", 1.0, 1.0, 1.0)


def _pace(target: Target, yardstick: Yardstick) -> Pace:
    found = target.forecast(yardstick.work, yardstick.dtype)
    slower, low, high = (value / yardstick.ms for value in (found.ms, found.low, found.high))
    return Pace(target.name, target.description.title, slower, low, high, target.anchors)
