"""Latencies of a session's recipes: predicted for the device that is looked at, measured here, and what is new of them.

Nothing else runs while time is measured: who runs images asks ``wait`` between two batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from workbench.compressed import CompressedModel
from workbench.latency import LatencyEstimator
from workbench.measure.estimate import Latency
from workbench.recipe import Recipe
from workbench.run.courtesy import Courtesy
from workbench.snapshot import Snapshot

if TYPE_CHECKING:
    from workbench.measure.devices import Energy, Target
    from workbench.measure.devices.calibrate import Forecast
    from workbench.measure.devices.reasons import Change
    from workbench.measure.devices.roofline import Dtype
    from workbench.measure.devices.work import Work


class Latencies:
    """Asks ``estimator`` about recipes, which ``compress`` carries out; ``timing`` is held while time is measured."""

    def __init__(
        self,
        estimator: LatencyEstimator,
        compress: Callable[[Recipe], CompressedModel],
        courtesy: Courtesy,
        timing: AbstractContextManager[Any],
    ) -> None:
        self._estimator = estimator
        self._compress = compress
        self._courtesy = courtesy
        self.timing = timing
        #: By hash of a recipe, what was measured on this machine.
        self.known: dict[str, Latency] = {}
        #: How often what is known has changed: a Snapshot outlined before may tell what no longer holds.
        self.news = 0

    @property
    def target(self) -> Target | None:
        """The described device that latencies are predicted for; None for this machine."""
        return self._estimator.target

    @target.setter
    def target(self, target: Target | None) -> None:
        self._estimator.target = target
        self.news += 1

    def measured(self, recipe: Recipe) -> Latency | None:
        """Return what was measured here; nothing where another device is looked at."""
        return self.known.get(recipe.hash) if self.target is None else None

    def measure(self, recipe: Recipe) -> Latency:
        """Measure ``recipe`` on this machine; no images run meanwhile."""
        compressed = self._compress(recipe)
        with self.timing:
            latency = self._estimator.measure(compressed)
        self.known[recipe.hash] = latency
        self.news += 1
        return latency

    def learn(self, cancelled: Callable[[], bool]) -> Iterator[None]:
        """Measure kernels that predictions lack, a few at a time; yield when predictions got better."""
        unknown = self._estimator.unknown
        while unknown and not cancelled():
            self._courtesy.give_way(most=2.0)
            with self.timing:
                self._estimator.learn(cancelled, seconds=2)
            before, unknown = unknown, self._estimator.unknown
            self.news += 1
            yield
            if unknown >= before:  # some kernels can't be timed here; trying again would never end
                return

    def wait(self) -> None:
        """Return once no latency is being measured: a measurement that waits gets the machine for itself."""
        with self.timing:
            pass

    def are_of_another(self, snapshot: Snapshot) -> bool:
        """Whether the latency of ``snapshot`` is of another device than the present one."""
        from workbench.measure.latency.device import device_name

        present = self.target.description.title if self.target else device_name()
        return any(one is not None and one.device != present for one in (snapshot.latency, snapshot.baseline.latency))

    def work(self, recipe: Recipe) -> tuple[Work, Dtype]:
        """Return what a described device would have to do for one image under ``recipe``."""
        return self._estimator.work(self._compress(recipe))

    def change(self, recipe: Recipe) -> Change:
        """Return what ``recipe`` did to the network, as described devices see it."""
        return self._estimator.change(self._compress(recipe))

    def on_target(self, recipe: Recipe) -> tuple[Forecast, Energy | None] | None:
        """Return the ratio to the baseline on the described device, and the energy there; None without one."""
        return self._estimator.on_target(self._compress(recipe))

    def time_shares(self, recipe: Recipe) -> dict[str, float]:
        """Return weight name → share of the predicted time under ``recipe``."""
        return self._estimator.time_shares(self._compress(recipe))

    def file(self, recipe: Recipe) -> bytes:
        """Return the ONNX file that is timed for ``recipe``."""
        return bytes(self._estimator.file(self._compress(recipe)).SerializeToString(deterministic=True))
