"""Figures of recipes that a person may come to next, found in quiet moments.

They are no guesses: each recipe is carried out, packed and run on the first images, as it would be when asked for.
"""

from __future__ import annotations

import functools
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TypeAlias

from workbench.errors import WorkbenchError
from workbench.kept import Found, Kept
from workbench.recipe import Recipe
from workbench.techniques import Cost

#: Seconds of one processor for it in a session, at most, unless the environment gives another number; 0: none.
SECONDS = 240.0
SETTING = "WORKBENCH_FORESIGHT"

Check = Callable[[], None]
#: Gives recipes, whenever it is asked.
Group: TypeAlias = Callable[[], Iterable[Recipe]]
Errand: TypeAlias = Callable[[Check], None]


def seconds() -> float:
    """Return the processor seconds that may be spent on it; raises ``WorkbenchError`` where that is no number."""
    given = os.environ.get(SETTING, "")
    try:
        found = float(given) if given else SECONDS
    except ValueError:
        found = math.nan
    if not found >= 0:
        raise WorkbenchError(f"{SETTING} is '{given}': give the seconds of a processor, 0 for none.")
    return found


class Foresight:
    """Finds the figures of wanted recipes, one after the other; ``find`` carries one out and measures it.

    ``keep`` opens what is kept, when first there is something to find. ``sees`` tells whether images would be run: then
    figures are found again that were kept without those of images, by a session that had no time for them.
    """

    def __init__(
        self, find: Callable[[Recipe, Check], Found], keep: Callable[[], Kept], sees: Callable[[], bool] = lambda: False
    ) -> None:
        self._find = find
        self._keep = keep
        self._sees = sees
        self._seconds = seconds()
        self._lock = threading.Lock()
        self._wanted: Iterator[Errand] = iter(())
        self._next: Errand | None = None
        #: Whether no group was done yet, which only looks up what is known: that takes no quiet moment.
        self.is_first = True

    @functools.cached_property
    def _kept(self) -> Kept:
        return self._keep()

    def want(self, groups: Sequence[Group], told: Callable[[], None]) -> None:
        """Find the figures of these recipes, in this order, and of none that were wanted before.

        ``told`` is called once what is known already of the first group was looked up, then of the others, and then
        whenever one more group is done.
        """
        with self._lock:
            self._wanted, self._next = self._errands(groups, told), None

    def _errands(self, groups: Sequence[Group], told: Callable[[], None]) -> Iterator[Errand]:
        def tell(_: Check) -> None:
            self.is_first = False
            told()

        known = [(self._look_up, groups[:1]), (self._look_up, groups[1:])]
        for see_to, some in (*known, *((self._see_to, [group]) for group in groups)):
            for group in some:
                with suppress(WorkbenchError):  # a recipe that cannot be: the group ends with it
                    yield from (functools.partial(see_to, recipe) for recipe in group() if recipe.cost is Cost.LIVE)
            yield tell

    def get(self, recipe: str) -> Found | None:
        """Return what is known of the recipe with this hash; nothing is waited for."""
        kept = self.__dict__.get("_kept")
        return kept and kept.get(recipe)

    def has_more(self) -> bool:
        """Whether there is something left to be found, and time for it."""
        with self._lock:
            if self._next is None:
                self._next = next(self._wanted, None)
            return self._next is not None and (self.is_first or self._seconds > 0)

    def go_on(self, check: Check) -> bool:
        """Do one thing more; return whether the group goes on. What ``check`` interrupts is left for another time."""
        if not self.has_more():
            return False
        with self._lock:
            errand = self._next
        if errand is not None:
            errand(check)
        with self._lock:
            if self._next is errand:  # unless others are wanted by now
                self._next = None
        return isinstance(errand, functools.partial)

    def _look_up(self, recipe: Recipe, check: Check) -> None:
        check()
        self._kept.look_up(recipe.hash)

    def _see_to(self, recipe: Recipe, check: Check) -> None:
        known = self._kept.look_up(recipe.hash)
        if known is not None and (known.images or not self._sees()):
            return
        start = time.thread_time()
        try:
            self._kept.keep(recipe.hash, self._find(recipe, check))
        except WorkbenchError:  # this model refuses it, and will when a person asks
            pass
        finally:
            self._seconds -= time.thread_time() - start

    def close(self) -> None:
        """Want nothing more, and let go of the file."""
        self.want((), lambda: None)
        if "_kept" in self.__dict__:
            self._kept.close()
