"""A recipe's first figures found beforehand: its size, and how it does on the first images."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np

from workbench.compressed import CompressedModel
from workbench.compression import compress_subject
from workbench.errors import WorkbenchError
from workbench.evaluation import Evaluator
from workbench.kept import Found
from workbench.measure.estimate import Size
from workbench.measure.sampling import Figures, Sampler
from workbench.recipe import Recipe
from workbench.run.one_thread import one_openmp_thread
from workbench.run.runner import Runner
from workbench.techniques.context import Cache, Context

#: Seconds that the first images may keep the thread that runs them at work: where they take longer, the next move would
#: wait for them.
LONGEST = 0.5

Check = Callable[[], None]


class Glimpses:
    """Carries recipes out beside a person's; ``compressing`` is held while ``context`` is used.

    ``size`` tells a compressed model's; ``sampler`` gives what orders and judges the images, None before that is known.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        context: Context,
        compressing: AbstractContextManager[object],
        size: Callable[[CompressedModel], Size],
        sampler: Callable[[], Sampler | None],
    ) -> None:
        self._evaluator = evaluator
        self._context = context
        self._compressing = compressing
        self._size = size
        self._sampler = sampler
        self._takes_long = False
        self._runner: Runner | None = None

    def sees(self) -> bool:
        """Whether the next recipe's images would be run."""
        return not self._takes_long and self._sampler() is not None

    def find(self, recipe: Recipe, check: Check) -> Found:
        """Return the figures of ``recipe``, without those of images where these take long.

        Raises ``WorkbenchError`` where it can't be carried out, or has a graph to be exported first: whoever moves
        meanwhile would wait for that.
        """
        with self._compressing, one_openmp_thread(), self._context.cache.passing():
            # what it leaves in the caches would push out what the next move needs
            context = dataclasses.replace(self._context, encodings=Cache(), check=check)
            compressed = compress_subject(self._evaluator.subject, recipe, context)
            if self._evaluator.graphs.exports(compressed):
                raise WorkbenchError("A structure that is to be exported anew is not looked at beforehand.")
            size = self._size(compressed)
        found = Found(size.bytes, size.entropy_bytes or 0, size.runtime_bytes)
        sampler = self._sampler()
        if sampler is None or self._takes_long:
            return found
        figures = self._run(compressed, sampler, check)
        score = figures.accuracy if self._evaluator.split.labelled else figures.agreement
        return found._replace(
            images=score.n, score=score.value, low=score.low, high=score.high, agreement=figures.agreement.value
        )

    def stop(self) -> None:
        """Give up the images that are running, from another thread."""
        runner = self._runner
        if runner is not None:
            runner.stop()

    def _run(self, compressed: CompressedModel, sampler: Sampler, check: Check) -> Figures:
        start = time.thread_time()  # of its own: what else the machine does says nothing about the model
        self._evaluator.confirm(compressed)  # that the runtime answers as PyTorch does
        self._runner = self._evaluator.free_runner(compressed)
        check()  # a stop before the runner was known must not be lost
        first = sampler.looks[0]
        logits = np.concatenate(list(self._evaluator.batches(self._runner, 0, first, check)))
        self._takes_long = time.thread_time() - start > LONGEST
        return sampler.estimate(logits, first)
