"""What first moves of a slider would wait for, found in quiet moments.

Many techniques first find what does not depend on how far a slider goes: the order of the weights, singular values,
sums for k-means. Carrying out their examples before anyone asks leaves all of that in the cache. A slider of whole
numbers, such as bits, has so few positions that each of them is carried out. What changes the structure also has a
graph of its own to be read, whatever the ranks.

Where a model is deep, the main sliders together are carried out to the size: the memory that it takes is got from the
system once, which is a tenth of a first move.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property

from workbench.compressed import CompressedModel
from workbench.compression import compress_subject, draft_for
from workbench.editing import with_settings
from workbench.errors import WorkbenchError
from workbench.models.factors import Factorize
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques import TECHNIQUES, Cost
from workbench.techniques.context import CacheFull, Context

#: Seconds of one processor for it in a session, at most; of large models, which take longer, the first are prepared.
SECONDS = 5.0
#: Share of the cache to fill at most: beyond it, what was found first would soon be dropped. An example that needs
#: more is left to whoever asks for it.
FULL = 0.75
#: Techniques of the sliders that most begin with.
MAIN = ("prune", "quantize")
#: Settings of the main sliders together, of which as many lie in memory at a time as in a drag.
WHOLE = tuple(
    Recipe.parse([{"prune": {"ratio": ratio}}, {"quantize": {"bits": bits}}])
    for ratio, bits in ((0.3, 8), (0.8, 4), (0.6, 6), (0.5, 2))
)


def examples() -> Iterator[Recipe]:
    """Yield the example recipes of all techniques, those of the main sliders first."""
    for technique in sorted(TECHNIQUES.values(), key=lambda technique: technique.name not in MAIN):
        yield from map(Recipe.parse, technique.examples)


class Rehearsal:
    """The first steps of all live examples, carried out on ``subject`` once; what is cached stays in ``context``.

    ``read`` is given each compressed model that has layers in factors; ``whole`` are carried out first, to the size.
    """

    def __init__(
        self,
        subject: Subject,
        context: Context,
        read: Callable[[CompressedModel], None] = lambda compressed: None,
        whole: Sequence[Recipe] = (),
    ) -> None:
        self._subject = subject
        self._context = context
        self._read = read
        self._whole = whole
        self._seconds = SECONDS

    @cached_property
    def _left(self) -> list[Recipe]:
        # what a second step finds holds for one setting of the first only
        first = dict.fromkeys(Recipe(recipe.steps[:1]) for recipe in examples())
        live = [recipe for recipe in first if recipe.cost is Cost.LIVE]
        return list(dict.fromkeys([*self._whole, *live, *(other for recipe in live for other in _positions(recipe))]))

    @property
    def is_on_main(self) -> bool:
        """Whether the next example is one of the main sliders'."""
        return bool(self._left) and self._left[0].steps[0].technique in MAIN

    def go_on(self, check: Callable[[], None]) -> bool:
        """Carry out one more example, given up where ``check`` raises; return whether there are others."""
        if not self._left or self._seconds < 0 or self._context.cache.filled > FULL:
            return False
        start = time.thread_time()
        self._context.check = check
        try:
            with self._context.cache.filling(FULL):
                self._carry_out(self._left[0])
        except (WorkbenchError, CacheFull):  # of the former: this model refuses it, and will when a person asks
            pass
        finally:
            self._seconds -= time.thread_time() - start
        self._left.pop(0)
        return True

    def _carry_out(self, recipe: Recipe) -> None:
        if recipe in self._whole:
            assert compress_subject(self._subject, recipe, self._context).nbytes
            return
        draft = draft_for(self._subject, recipe, self._context)
        if any(isinstance(edit, Factorize) for edit in draft.edits):
            self._read(compress_subject(self._subject, recipe, self._context))


def _positions(recipe: Recipe) -> Iterator[Recipe]:
    """Yield ``recipe``, of one step, with its slider at each of its positions, where these are whole numbers."""
    (step,) = recipe.steps
    dial = step.definition.dial
    if dial is None or not all(float(level).is_integer() for level in dial.levels):
        return
    for level in dial.levels:
        with suppress(WorkbenchError):  # a format that has one width
            yield with_settings(recipe, step.technique, {dial.setting: level})
