"""The threads that do what a Session was asked for.

Two drive the Engine, which does the work stage by stage, and publish each stage as it is ready. The first finds size
and latency and hands the Snapshot on; the second measures accuracy, sampled and narrowing look by look, then exact.
They are two so that a size never waits for what can't be given up at once: a runtime that is loading a deep model. A
third uses the pauses: it finds what later moves would wait for, and times the kernels that predictions lack.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from workbench.bulletin import Bulletin, Superseded
from workbench.engine import Engine
from workbench.foresight import Group
from workbench.leaving import end_at_exit
from workbench.recipe import Recipe
from workbench.run import garbage
from workbench.run.courtesy import stand_back
from workbench.run.runner import Stopped
from workbench.snapshot import Snapshot, sentence
from workbench.techniques import Cost
from workbench.undo import UndoPath

#: Seconds that a size has to get on its way before accuracy takes the processor.
HEAD_START = 0.005
#: Seconds without a move before a deep model is written as a graph or loaded by its runtime: neither can be given up,
#: and the size of the next move would wait for Python and for the processor meanwhile.
REST = 0.4
#: Seconds from its opening in which a deep model's session prepares nothing: a page may be opening on it.
OPENING = 1.5
#: Seconds between two looks at whether other processes' first figures are done.
TURN = 0.01


class Workers:
    """Three threads that publish in ``bulletin`` what ``engine`` finds of its recipe; ``path`` hears what settled."""

    def __init__(self, engine: Engine, bulletin: Bulletin, path: UndoPath) -> None:
        self._engine, self._bulletin, self._path = engine, bulletin, path
        self._state = bulletin.changed
        self._pending = False
        self._outlined: tuple[Snapshot, int] | None = None  # with what was known of latencies then
        self._threads = [
            threading.Thread(target=work, name=f"workbench-{engine.subject.model.name}-{what}", daemon=True)
            for what, work in (("size", self._outline), ("accuracy", self._measure), ("prepare", self._prepare))
        ]

    def start(self) -> None:
        """Begin to work; what nobody has ended is ended with Python."""
        end_at_exit(self)
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Hear that there is a new recipe; the caller holds the bulletin's condition variable, and notifies."""
        self._pending = True

    def cancel(self) -> bool:
        """Tell the threads to end; return whether they had not been told before."""
        with self._state:
            was_open = self._bulletin.close()
            self._engine.stop()
        return was_open

    def join(self, seconds: float | None = None) -> None:
        """Wait for the threads to end, so many seconds each at most; one of them that calls does not wait."""
        if threading.current_thread() not in self._threads:
            for thread in self._threads:
                thread.join(seconds)

    def look_ahead(self, groups: Sequence[Group], told: Callable[[], None]) -> None:
        """Find these recipes' figures in quiet moments; see ``Foresight.want``."""
        self._engine.foresight.want(groups, told)
        with self._state:
            self._state.notify_all()

    def refresh_latency(self) -> None:
        """Tell the listeners the present latency anew: it was measured, or its prediction improved."""
        current = self._bulletin.snapshot
        self._bulletin.amend(current, self._engine.refresh_latency(current))

    def _outline(self) -> None:
        """Publish the size and latency of each recipe, a deep model's size first, and hand it on to be measured."""
        while True:
            with self._state:
                while not self._pending and not self._bulletin.closed:
                    self._state.wait()
                if self._bulletin.closed:
                    return
                self._pending = False
                generation, recipe = self._bulletin.generation, self._bulletin.recipe
            quick = recipe.cost is Cost.LIVE
            with self._reporting(generation, recipe), garbage.put_off() if quick else contextlib.nullcontext():
                check, news = self._bulletin.check_for(generation), self._engine.latencies.news
                if self._engine.is_deep:
                    self._publish(self._engine.sketch(generation, recipe, check), news)
                first = self._engine.outline(generation, recipe, check)
                self._publish(first, news)
                with self._state:
                    self._outlined = first, news
                    self._state.notify_all()

    def _measure(self) -> None:
        """Publish the accuracy of each recipe that was outlined."""
        stand_back(5)  # where the processor is short, sizes and what draws them come first
        while True:
            with self._state:
                while self._outlined is None and not self._bulletin.closed:
                    self._state.wait()
                if self._bulletin.closed or self._outlined is None:
                    return
                (first, news), self._outlined = self._outlined, None
                stale = partial(self._bulletin.is_stale, first.generation)
                pause = REST if self._engine.takes_long(first.recipe) else HEAD_START
                while not (dropped := self._state.wait_for(stale, pause)) and not self._engine.courtesy.is_turn:
                    pause = TURN
                if dropped:
                    continue
            with self._reporting(first.generation, first.recipe):
                check = self._bulletin.check_for(first.generation)
                for snapshot in self._engine.measure(first, self._path.current, check):
                    if snapshot.settled:
                        self._path.visit(first.recipe)
                    self._publish(snapshot, news)

    def _prepare(self) -> None:
        """Whenever a recipe has settled, find what later moves would wait for, and learn what kernels take."""
        stand_back(5)
        if self._engine.is_deep:  # which settles after minutes, and whose first moves would wait for seconds
            with self._state:
                self._state.wait_for(lambda: self._bulletin.closed, OPENING)
            with self._preparing():
                self._engine.prepare(self._is_resting, main=True)
                garbage.tidy()
        done = 0
        while True:
            with self._state:
                while not (self._has_settled_since(done) or self._may_foresee()):
                    self._state.wait(REST if self._engine.is_deep else None)
                if self._bulletin.closed:
                    return
                settled, done = self._has_settled_since(done), self._bulletin.generation
            with self._preparing():
                if self._engine.foresight.is_first:
                    self._engine.foresee(self._is_open)
                if settled:
                    self._engine.foresee(self._is_quiet)  # what else is known already
                    self._engine.prepare(self._is_quiet)
                    garbage.tidy()
                    self._engine.foresee(self._is_quiet)  # where one slider moves
                    for _ in self._engine.latencies.learn(
                        lambda: self._bulletin.closed or not self._bulletin.is_settled
                    ):
                        self.refresh_latency()
                while self._may_foresee():
                    self._engine.foresee(self._is_idle)

    @contextlib.contextmanager
    def _preparing(self) -> Iterator[None]:
        """Say what goes wrong inside: what was measured stands, and later moves only wait for more."""
        try:
            yield
        except (Superseded, Stopped):
            pass
        except Exception as error:
            self._engine.note(f"Not everything could be prepared for later moves: {sentence(error)}")
            self.refresh_latency()

    def _is_open(self) -> bool:
        """Return that nothing has ended; raises ``Superseded`` once closed."""
        if self._bulletin.closed:
            raise Superseded
        return True

    def _is_quiet(self) -> bool:
        """Whether the present recipe has settled; raises ``Superseded`` once closed."""
        return self._is_open() and self._bulletin.is_settled

    def _is_resting(self) -> bool:
        """Whether a size is shown and nothing was moved for a while; raises ``Superseded`` once closed."""
        return self._is_open() and not self._bulletin.is_awaited and self._bulletin.age > REST

    def _is_idle(self) -> bool:
        """Whether sizes may be found for later: a deep model's, which settles after minutes, between two moves."""
        return self._is_quiet() or (self._engine.is_deep and self._is_resting())

    def _may_foresee(self) -> bool:
        foresight = self._engine.foresight
        wanted = not self._bulletin.closed and self._engine.is_written and foresight.has_more()
        return wanted and (foresight.is_first or self._is_idle())

    def _has_settled_since(self, generation: int) -> bool:
        return self._bulletin.closed or (self._bulletin.is_settled and self._bulletin.generation != generation)

    @contextlib.contextmanager
    def _reporting(self, generation: int, recipe: Recipe) -> Iterator[None]:
        """Publish whatever goes wrong inside as a sentence."""
        try:
            yield
        except (Superseded, Stopped):
            pass
        except Exception as error:
            failed = Snapshot(generation, recipe, self._engine.baseline, settled=True, error=sentence(error))
            with contextlib.suppress(Superseded):
                self._publish(failed, self._engine.latencies.news)

    def _publish(self, snapshot: Snapshot, news: int) -> None:
        """Publish a Snapshot whose latencies are those of so many ``news``, or what they are by now."""
        present = self._engine.latencies.news
        if news != present:  # measured, or predicted for another device or better, since this recipe was outlined
            snapshot = self._engine.refresh_latency(snapshot)
        with self._state:
            self._bulletin.check_for(snapshot.generation)()
            if snapshot.score is not None or snapshot.settled:
                self._engine.courtesy.rest()
        self._bulletin.publish(snapshot)
        if present != self._engine.latencies.news:  # it changed while this was on its way
            self.refresh_latency()
