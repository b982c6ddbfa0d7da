"""What is known of the recipe set last, told in order and never after a newer one was set.

One condition variable guards it all. Each recipe set begins a generation; Snapshots of older ones are refused.
Listeners are called on whichever thread publishes, one thread at a time for all, so that they see the order of
publication whoever publishes.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator

from workbench.errors import WorkbenchError
from workbench.listeners import Listeners
from workbench.recipe import Recipe
from workbench.snapshot import Snapshot, sentence

Listener = Callable[[Snapshot], None]


class Superseded(Exception):
    """The recipe being worked on is no longer the wanted one."""


class Bulletin:
    """The Snapshots of the present generation; ``changed`` is notified whenever anything here changes."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.generation = 0
        self.recipe = Recipe()
        self.snapshot = Snapshot(0, Recipe())
        self.closed = False
        self._began = time.monotonic()
        self._trail: list[Snapshot] = []
        self._listeners = Listeners[Snapshot]()
        self._due: deque[tuple[Snapshot, list[Listener]]] = deque()
        self._telling = False

    def begin(self, recipe: Recipe) -> int:
        """Begin and return the generation of ``recipe``; raises ``WorkbenchError`` once closed."""
        with self.changed:
            if self.closed:
                raise WorkbenchError("This session is closed; open a new one.")
            self.generation += 1
            self.recipe = recipe
            self._began = time.monotonic()
            self._trail.clear()
            self.changed.notify_all()
            return self.generation

    def close(self) -> bool:
        """End it: nothing is published any more. Return whether it was open."""
        with self.changed:
            was_open, self.closed = not self.closed, True
            self.changed.notify_all()
            return was_open

    @property
    def is_settled(self) -> bool:
        """Whether nothing more will come for the present recipe."""
        return self.snapshot.settled and self.snapshot.generation == self.generation

    @property
    def is_awaited(self) -> bool:
        """Whether nothing was told of the present recipe yet."""
        return self.snapshot.generation != self.generation

    @property
    def age(self) -> float:
        """Seconds since the present recipe was set."""
        return time.monotonic() - self._began

    def is_stale(self, generation: int) -> bool:
        """Whether nobody wants Snapshots of ``generation`` any more."""
        return self.generation != generation or self.closed

    def check_for(self, generation: int) -> Callable[[], None]:
        """Return what raises ``Superseded`` as soon as work on this generation is no longer wanted."""

        def check() -> None:
            if self.is_stale(generation):
                raise Superseded

        return check

    def publish(self, snapshot: Snapshot) -> None:
        """Make ``snapshot`` the present one and tell it; raises ``Superseded`` where it is of an older generation."""
        with self.changed:
            if self.is_stale(snapshot.generation):
                raise Superseded
            self.snapshot = snapshot
            self._trail.append(snapshot)
            self._due.append((snapshot, list(self._listeners)))
            self.changed.notify_all()
        self._tell()

    def amend(self, seen: Snapshot, amended: Snapshot) -> None:
        """Tell ``amended`` in the place of ``seen``, unless something newer was published meanwhile."""
        with self.changed:
            if self.snapshot is not seen or self.closed:
                return
            self.snapshot = amended
            self._due.append((amended, list(self._listeners)))
        self._tell()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every Snapshot, in order, on a worker's thread; return what ends that."""
        return self._listeners.add(listener)

    def follow(self) -> Iterator[Snapshot]:
        """Yield the Snapshots of the recipe set last as they come, up to the settled one.

        Where another recipe is set meanwhile, its Snapshots follow.
        """
        generation, seen = -1, 0
        while True:
            with self.changed:
                if generation != self.generation:
                    generation, seen = self.generation, 0
                while len(self._trail) == seen and generation == self.generation and not self.closed:
                    self.changed.wait()
                if generation != self.generation:
                    continue
                fresh = self._trail[seen:]
                closed = self.closed
            yield from fresh
            seen += len(fresh)
            if closed or (fresh and fresh[-1].settled):
                return

    def wait_settled(self, generation: int) -> Snapshot:
        """Wait for the exact Snapshot of a generation and return it.

        Raises ``WorkbenchError`` where the recipe could not be carried out, or another one was set meanwhile.
        """
        with self.changed:
            while not self.is_stale(generation):
                if self._trail and self._trail[-1].settled:
                    snapshot = self._trail[-1]
                    if snapshot.error:
                        raise WorkbenchError(snapshot.error)
                    return snapshot
                self.changed.wait()
        raise WorkbenchError("The measurement was interrupted: another recipe was set, or the session was closed.")

    def _tell(self) -> None:
        """Call the listeners with what is due, in the order published; one thread at a time does so for all."""
        while True:
            with self.changed:
                if self._telling or not self._due:
                    return
                self._telling = True
                snapshot, listeners = self._due.popleft()
            for listener in listeners:
                try:
                    listener(snapshot)
                except Exception as error:  # one broken view must not silence the others
                    warnings.warn(f"A listener of the session failed: {sentence(error)}", stacklevel=2)
            with self.changed:
                self._telling = False
