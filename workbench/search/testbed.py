"""A model on one split, for work that measures many recipes on a thread of its own.

It has an Engine and no thread: whoever calls waits. What it measures goes into the session's history like everything
else, so that a second search, or a person who applies an answer, finds it there. Before each piece of work the
person's own recipe settles first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from workbench.analyze.figures import log_softmax
from workbench.compressed import CompressedModel
from workbench.data.dataset import Dataset, Normalization, Split
from workbench.engine import Engine
from workbench.errors import WorkbenchError
from workbench.footing import Footing
from workbench.recipe import Recipe
from workbench.snapshot import Snapshot

if TYPE_CHECKING:
    from workbench.history import Key
    from workbench.session import Session
    from workbench.subject import Subject

#: Measured settings that are kept as snapshots.
KEPT = 256


class Testbed:
    """``session``'s model on ``split``; ``check`` is called often, and raises where the work is no longer wanted.

    What is measured came from ``base``, as the history notes it, or from the dense model where ``base`` has no figures.
    """

    __test__ = False  # pytest collects what is called Test…

    def __init__(self, session: Session, split: str, check: Callable[[], None], base: Recipe | None = None) -> None:
        self._session, self._check, self._base = session, check, base or Recipe()
        self.data: Dataset = session.data
        self.split: Split = session.data[split]
        self.normalization: Normalization = session.normalization
        session.give_way(lambda: session.closed)
        check()
        sibling = session.footing()  # its layers and its graph: tracing them anew would meet the session's own work
        self._engine = Engine(session.model, session.data, split, session.history, sibling=sibling)
        self._measured: dict[str, Snapshot] = {}
        self.measure(Recipe())

    @property
    def subject(self) -> Subject:
        """The model before any recipe."""
        return self._engine.subject

    @property
    def key(self) -> Key:
        """What the figures belong to in the history."""
        return self._engine.keys.main

    def key_of(self, recipe: Recipe) -> Key:
        """Return what the figures of ``recipe`` belong to: those of one that learns, to what it learns from as well."""
        return self._engine.keys.of(recipe)

    @property
    def closed(self) -> bool:
        """Whether the person's session has ended."""
        return self._session.closed

    @property
    def baseline(self) -> Snapshot:
        """The dense model's figures."""
        return self._measured[Recipe().hash]

    def measure(self, recipe: Recipe) -> Snapshot:
        """Return the exact figures of ``recipe`` on the whole split."""
        found = self._measured.get(recipe.hash)
        if found is None:
            self._pause()
            first = self._engine.outline(0, recipe, self._check)
            found = first
            for snapshot in self._engine.measure(first, self._origin(recipe), self._pause):
                found = snapshot
            self._measured[recipe.hash] = found
            while len(self._measured) > KEPT:
                oldest = next(each for each in self._measured if each != Recipe().hash)
                del self._measured[oldest]
        return found

    def outline(self, recipe: Recipe) -> Snapshot:
        """Return what is known of ``recipe`` without running an image: its true sizes, and its latency."""
        self._check()
        return self._engine.outline(0, recipe, self._check)

    def compress(self, recipe: Recipe) -> CompressedModel:
        """Return the model under ``recipe``."""
        return self._engine.compress(recipe, self._check)

    def divergence(self, recipe: Recipe) -> float:
        """Return the mean KL divergence of ``recipe``'s probabilities from the dense model's, nats, on all images."""
        dense, logits = self._engine.logits(Recipe()), self._engine.logits(recipe)
        if logits is None:
            runner = self._engine.runner(recipe)
            images = [self.split.images[at : at + 64] for at in range(0, len(self.split), 64)]
            parts = []
            for batch in images:
                self._pause()
                parts.append(runner.logits(self.normalization(batch).contiguous()))
            logits = np.concatenate(parts)
            self._engine.keep_logits(recipe, logits)
        assert dense is not None, "the baseline is measured first"
        mine, theirs = log_softmax(dense), log_softmax(logits)
        return float(np.maximum((np.exp(mine) * (mine - theirs)).sum(-1), 0).mean())

    def learn_latency(self) -> None:
        """Measure the kernels that predictions still lack on this machine."""
        for _ in self._engine.latencies.learn(lambda: self._session.closed):
            self._check()

    def footing(self, check: Callable[[], None] = lambda: None) -> Footing:
        """Return what a sweep needs to run images likewise."""
        return self._engine.footing(check)

    def give_way(self, cancelled: Callable[[], bool]) -> None:
        """Wait until the person's own recipe has settled."""
        self._session.give_way(cancelled)

    def _origin(self, recipe: Recipe) -> Recipe | None:
        known, key_of = self._session.history.find, self._engine.keys.of
        with contextlib.suppress(WorkbenchError):  # a history that cannot be read
            return next((one for one in (self._base, Recipe()) if one != recipe and known(key_of(one), one.hash)), None)
        return None

    def _pause(self) -> None:
        self._check()
        self._session.give_way(lambda: self._session.closed)
        self._check()
