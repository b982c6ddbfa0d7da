"""How Snapshots get from a Session's worker to the views.

A Session calls its subscribers on its worker thread, often faster than a page can draw, and a slow
subscriber would hold the worker up. So one Feed per Session stands between them: the worker only puts
the newest Snapshot into a slot, and the Feed's own thread hands the slot's content to every view.
A Snapshot that was replaced before it was drawn is never drawn, and one of an older generation is
refused, so nothing stale reaches a page after something newer.

Views that do more than show a few numbers are patient: they have a Feed of their own kind, which lets the
first accuracy through before it takes the processor, though it waits no longer than its patience. So
there is one thread for each patience, and the headline figures never queue behind a histogram.

Lock order: a view's lock may be held while calling the Session (a slider moved); the Feed therefore
never holds its own lock while it calls a view or the Session.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from workbench.leaving import end_at_exit

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.snapshot import Snapshot

Draw = Callable[["Snapshot"], None]

#: Seconds that patient views wait at most while others' pages wait for first figures, and between two looks: where
#: several drag at once, drawing what the next move replaces would take most of the processor.
CROWDED, LOOK = 0.6, 0.05

_feeds: dict[tuple[int, float], Feed] = {}
_feeds_lock = threading.Lock()
_log = logging.getLogger(__name__)


def listen(session: Session, draw: Draw, patience: float = 0.0) -> Callable[[], None]:
    """Call ``draw`` with the present Snapshot and with newer ones, on the Feed's thread.

    ``patience``: seconds to wait for a Recipe's first accuracy before drawing it. Returns the function
    that ends the listening. The Feed is shared by all equally patient views of the Session and stops
    with the last of them.
    """
    key = (id(session), patience)
    with _feeds_lock:
        feed = _feeds.get(key)
        if feed is None:
            feed = _feeds[key] = Feed(session, patience)
        feed.add(draw)

    def leave() -> None:
        with _feeds_lock:
            if feed.remove(draw) == 0 and _feeds.get(key) is feed:
                del _feeds[key]
                feed.cancel()

    return leave


class Feed:
    """The newest Snapshot of one Session, drawn by all its views from one thread."""

    def __init__(self, session: Session, patience: float = 0.0) -> None:
        self.session = session
        self._patience = patience
        self._changed = threading.Condition()
        self._draws: list[Draw] = []
        self._fresh: list[Draw] = []
        self._slot: Snapshot | None = None
        self._drawn: Snapshot | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="workbench-feed", daemon=True)
        self._unsubscribe = session.subscribe(self.offer)
        end_at_exit(self)
        self._thread.start()

    def add(self, draw: Draw) -> None:
        """Draw with ``draw`` too, beginning with the present Snapshot."""
        with self._changed:
            self._draws.append(draw)
            self._fresh.append(draw)
            self._changed.notify()

    def remove(self, draw: Draw) -> int:
        """Stop calling ``draw``; return how many are left."""
        with self._changed:
            self._draws = [other for other in self._draws if other is not draw]
            self._fresh = [other for other in self._fresh if other is not draw]
            return len(self._draws)

    def offer(self, snapshot: Snapshot) -> None:
        """Replace what waits to be drawn, unless ``snapshot`` is of an older generation."""
        with self._changed:
            newest = self._slot or self._drawn
            if newest is not None and snapshot.generation < newest.generation:
                return
            self._slot = snapshot
            self._changed.notify()

    def cancel(self) -> None:
        """Unsubscribe and end the thread: the last view has left, or Python ends."""
        self._unsubscribe()
        with self._changed:
            self._stopped = True
            self._changed.notify()

    def join(self, seconds: float | None = None) -> None:
        """Wait until what is being drawn is drawn, or so many seconds."""
        if threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._slot is not None or self._fresh)
                if self._patience and not self._fresh:
                    self._let_go_first()
                if self._stopped:
                    return
                snapshot, self._slot = self._slot, None
                draws = list(self._fresh if snapshot is None else self._draws)
                self._fresh = []
                self._drawn = snapshot or self._drawn or self.session.snapshot
            for draw in draws:
                self._draw(draw, self._drawn)

    def _let_go_first(self) -> None:
        """Wait for the first accuracy: for the Feed's patience, longer while first figures are awaited elsewhere."""
        latest = time.monotonic() + max(self._patience, CROWDED)
        pause = self._patience
        while not self._changed.wait_for(self._is_measured, pause):
            pause = LOOK
            if time.monotonic() > latest or not self.session.crowded:
                return

    def _is_measured(self) -> bool:
        snapshot = self._slot
        return self._stopped or bool(self._fresh) or snapshot is None or snapshot.score is not None or snapshot.settled

    def _draw(self, draw: Draw, snapshot: Snapshot) -> None:
        try:
            draw(snapshot)
        except Exception:  # one broken view must not silence the others
            if not self.session.closed:  # which has taken its history with it
                _log.exception("A view could not draw generation %s.", snapshot.generation)
