"""A runner that is watched: what it is asked and what it answers, in windows, in bounded memory.

While a prediction is served only its logits are kept, its time, and of one image in four some rows: a few
instructions, since the runtime has just emptied the caches and each one is paid in full. One image at a time,
which is what most services ask for, has a path of its own. Every ``WINDOW`` predictions these are turned into
statistics at once, and forgotten.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Size, Tensor

from workbench.run.runner import Runner

from .drift import Distributions, Drift, compare_classes
from .durations import Durations
from .features import INPUTS, OUTPUTS, of_images, of_logits, thinning
from .reference import MonitorError, Reference, require_classes
from .shadow import Shadow

#: Predictions of a window. Of every ``EVERY``-th one the image is looked at.
WINDOW, EVERY = 512, 4
#: A batch is taken in parts of so many, so that a window ends soon after it is full.
PART = 64
#: A window alarms where chance would do so in one of 50,000 comparisons: six comparisons a window of 512 make
#: 0.02 alarms in 100,000 predictions.
ALPHA = 2e-5
#: Alarms that are remembered.
REMEMBERED = 100


@dataclass(frozen=True)
class Alarm:
    """A window that differed from the reference; ``prediction`` counts from the first one served."""

    prediction: int
    drift: Drift

    @property
    def sentence(self) -> str:
        """What happened, in words."""
        what = self.drift
        if what.feature == "class":
            return f"At prediction {self.prediction:,} the answers were shared out otherwise (PSI {what.psi:.2f})."
        way = "fell" if what.shift < 0 else "rose"
        return f"At prediction {self.prediction:,} {what.feature} {way} by {abs(what.shift):.3g} (PSI {what.psi:.2f})."

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"prediction": self.prediction, "sentence": self.sentence, **asdict(self.drift)}


class Monitor:
    """Wraps ``runner``; itself a ``Runner``. Several threads may ask it.

    ``last`` holds each feature's latest comparison, ``alarms`` the latest that differed.
    """

    def __init__(self, runner: Runner, reference: Reference, shadow: Shadow | None = None, every: int = 100) -> None:
        """``shadow`` is offered one image of ``every``."""
        import scipy.special  # noqa: F401  # now, rather than while the prediction that ends a window waits for it

        self._runner, self._reference, self.shadow = runner, reference, shadow
        self.runtime = runner.runtime
        self._inputs, self._outputs = (
            Distributions({name: reference.samples[name] for name in names}) for names in (INPUTS, OUTPUTS)
        )
        self._means = {name: float(sample.mean()) for name, sample in reference.samples.items()}
        self._shape, self._single = Size(reference.shape), Size((1, *reference.shape))
        self._every = max(1, every)
        classes = len(reference.classes)
        self._logits: list[bytes] = []
        self._rows = thinning(reference.shape)
        self._first = (0, *self._rows)
        kept = np.empty(reference.shape)[self._rows].shape
        self._images = np.zeros((-(-(WINDOW + PART) // EVERY), *kept), np.float32)
        self._times = array("d")  # NumPy reads it at once, a list number by number
        self._lock = threading.Lock()
        self._closed = 0  # predictions of the windows before
        self.alarm_count = self.failures = 0
        self.durations = Durations()
        self.classes = np.zeros(classes, np.int64)
        self.last: dict[str, Drift] = {}
        self.alarms: deque[Alarm] = deque(maxlen=REMEMBERED)

    @property
    def predictions(self) -> int:
        """Images answered."""
        return self._closed + len(self._times)

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        """Return the runner's logits ``(N, classes)``, and remember them.

        Raises ``MonitorError`` for images of another shape and answers of other classes than the reference's; what
        the runner raises is counted and passed on.
        """
        single = images.shape == self._single
        if not single and images.shape[1:] != self._shape:
            raise MonitorError(f"Images must be of shape {tuple(self._shape)}, not {tuple(images.shape[1:])}.")
        start = time.perf_counter()
        try:
            found = self._runner.logits(images)
        except Exception:
            self.failures += 1
            raise
        spent_ms = 1000 * (time.perf_counter() - start)
        if found.shape[1:] != self.classes.shape:
            require_classes(found, len(self.classes))
        with self._lock:
            if single:
                self._take_one(images, found, spent_ms)
            else:
                for first in range(0, len(found), PART):
                    part = slice(first, first + PART)
                    self._take(images[part], found[part], spent_ms / len(found))
        return found

    def stop(self) -> None:
        """Stop the runner."""
        self._runner.stop()

    def status(self) -> Mapping[str, Any]:
        """Return all figures as plain data."""
        with self._lock:
            told: dict[str, Any] = {
                "predictions": self.predictions, "failures": self.failures, "alarms": self.alarm_count,
                "latency_ms": {f"p{p}": self.durations.percentile(p) for p in (50, 95, 99)},
                "classes": self.classes.tolist(), "drift": {name: asdict(entry) for name, entry in self.last.items()},
                "latest": [alarm.to_json() for alarm in self.alarms],
                "normal": self._means,
            }  # fmt: skip
        if self.shadow is not None:
            share, low, high = self.shadow.agreement
            told["shadow"] = {
                "agreement": share, "low": low, "high": high, "compared": self.shadow.compared,
                "skipped": self.shadow.skipped, "failed": self.shadow.failed,
            }  # fmt: skip
        return told

    def _take_one(self, image: Tensor, logits: NDArray[np.float32], ms: float) -> None:
        """Remember one prediction: what ``_take`` does, in as few steps as can be."""
        filled = len(self._times)
        self._times.append(ms)
        self._logits.append(logits.tobytes())  # the runtime's array goes back while it is in the cache
        if not filled % EVERY:
            self._images[filled // EVERY] = image.numpy()[self._first]
        if self.shadow is not None:
            self._offer(self.shadow, image, logits)
        if filled + 1 >= WINDOW:
            self._close_window()

    def _take(self, images: Tensor, logits: NDArray[np.float32], each_ms: float) -> None:
        """Remember ``PART`` predictions at most, which never reach beyond a window's end by more than themselves."""
        filled, count = len(self._times), len(logits)
        skip = -filled % EVERY
        if skip < count:
            chosen = images.numpy()[skip::EVERY][self._rows]
            row = (filled + skip) // EVERY
            self._images[row : row + len(chosen)] = chosen
        self._times.extend([each_ms] * count)
        self._logits.append(logits.tobytes())
        if self.shadow is not None:
            self._offer(self.shadow, images, logits)
        if filled + count >= WINDOW:
            self._close_window()

    def _offer(self, shadow: Shadow, images: Tensor, logits: NDArray[np.float32]) -> None:
        """Offer every ``every``-th prediction of those just remembered, counted from the first one served."""
        for place in range((len(logits) - self.predictions) % self._every, len(logits), self._every):
            shadow.offer(images[place : place + 1].numpy().copy(), int(logits[place].argmax()))

    def _close_window(self) -> None:
        try:
            self._compare_window()
        finally:  # a window that could not be compared is not taken up again at each later prediction
            self._closed += len(self._times)
            self._logits.clear()
            self._times = array("d")

    def _compare_window(self) -> None:
        seen = -(-len(self._times) // EVERY)
        logits = np.frombuffer(b"".join(self._logits), np.float32).reshape(len(self._times), -1)
        answers = np.bincount(logits.argmax(1), minlength=len(self.classes))
        self.classes += answers
        self.durations.add(self._times)
        compared = [
            *self._inputs.compare(of_images(self._images[:seen])),
            *self._outputs.compare(of_logits(logits)),
            compare_classes(self._reference.classes, answers),
        ]
        for drift in compared:
            self.last[drift.feature] = drift
            if drift.p < ALPHA:
                self.alarm_count += 1
                self.alarms.append(Alarm(self.predictions, drift))
