"""What the views have in common: a Session to draw, its marks, a lock, and their sources.

Threads: the page's messages arrive on the kernel's main thread (Voila) or on a subshell's (JupyterLab),
Snapshots on the Feed's. Both set traits of the same widget, and ipywidgets' bookkeeping of what the
page already knows is not thread-safe, so everything that touches a trait holds the view's lock.

Lock order: a view's lock, then the Marks', then the Session's. The Feed and the Marks call views
without holding a lock of their own.

A view that nobody can see (in a hidden tab) is not drawn. The page reports ``visible``; when it becomes
true, the present Snapshot is drawn, on the Feed's thread too: of two drawn at once the older could be
published last. What was still being drawn of another Session when a view is attached to the next one is not
published.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from workbench.errors import WorkbenchError

from .feed import listen
from .marks import Marks, marks_of
from .picture import Pictured
from .widget import Widget

if TYPE_CHECKING:
    from workbench.recipe import Recipe
    from workbench.session import Session
    from workbench.snapshot import Snapshot

_WIDGETS = Path(__file__).parents[1]
_log = logging.getLogger(__name__)


def script(*names: str) -> str:
    """Return a view's JavaScript module: what all views share, then these files, named from ``widgets/``."""
    return _source("base/base.js", *names)


def style(*names: str) -> str:
    """Return a view's style sheet: what all views share, then these files, named from ``widgets/``."""
    return _source("base/base.css", *names)


def _source(*names: str) -> str:
    return "\n".join((_WIDGETS / name).read_text(encoding="utf-8") for name in names)


def require_session(session: object, shown_by: str) -> None:
    """Raise ``WorkbenchError`` for what is no Session, such as the model or the name that one is opened on."""
    if not hasattr(session, "snapshot"):
        raise WorkbenchError(f"{shown_by} shows a Session: open one with Session(model, data), and give that.")


class _AttachedElsewhereError(Exception):
    """What is being drawn is of a Session that is no longer shown."""


class View(Pictured, Widget):
    """A widget that draws one Session's Snapshots.

    Subclasses write ``draw``, and where they need it ``begin`` (a new Session), ``mark`` (a selection or
    a lock changed) and ``receive`` (the page sent a message). Those that show data also write ``plot``,
    from which ``figure()`` and ``save(path)`` come.
    """

    #: Seconds a view lets a Recipe's first accuracy go before it. Without patience are those that a hand on a
    #: slider waits for; what draws more than a few numbers has some, and more where it computes first.
    patience: ClassVar[float] = 0.03

    #: Traits that the page sets: the kernel may be behind.
    of_page: ClassVar[frozenset[str]] = frozenset({"visible"})

    visible = traitlets.Bool(True).tag(sync=True, echo_update=False)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._lock = threading.RLock()
        self._leave: list[Callable[[], None]] = []
        self.session: Session | None = None
        self._drawn_of = threading.local()
        super().__init__(**traits)
        self.on_msg(self._on_message)
        self.observe(self._on_visible, "visible")
        if session is not None:
            require_session(session, type(self).__name__)
            self.attach(session)

    def attach(self, session: Session) -> None:
        """Draw ``session`` from now on, instead of the one before."""
        self.detach()
        marks = marks_of(session)
        with self.publishing():
            self.session = session
            self.begin(session)
            self.mark(marks)
        with self._lock:
            self._leave = [marks.subscribe(self._mark_if_current(session)), self._listen()]

    def detach(self) -> None:
        """Stop drawing; the last figures stay."""
        with self._lock:
            leave, self._leave = self._leave, []
        for end in leave:
            end()

    def begin(self, session: Session) -> None:
        """Set what stays the same for the whole Session."""

    def draw(self, snapshot: Snapshot) -> None:
        """Set the traits that show ``snapshot``."""
        raise NotImplementedError

    def mark(self, marks: Marks) -> None:
        """Set the traits that show which layers are selected and locked."""

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Do what the page asked for in a message; ``buffers`` are its binary parts."""

    @property
    def marks(self) -> Marks:
        """The marks of the present Session."""
        assert self.session is not None
        return marks_of(self.session)

    def change(self, edit: Callable[[Recipe], Recipe], whole: bool = False, move: int | None = None) -> int:
        """Set the Session's recipe to ``edit`` of the present one; return the new generation. See ``Marks``."""
        assert self.session is not None
        return self.marks.change(self.session, edit, whole, move)

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Hold the lock and send all traits set meanwhile as one message."""
        with self._lock, self.hold_sync():
            if getattr(self._drawn_of, "session", self.session) is not self.session:
                raise _AttachedElsewhereError
            yield

    def repeat(self) -> None:
        """Send the page everything that it did not set itself."""
        with self._lock:
            self.send_state([name for name in self.keys if name[0] != "_" and name not in self.of_page])

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take a change made on the page."""
        with self._lock:
            super().set_state(sync_data)

    def close(self) -> None:
        """Leave the Session and the page."""
        self.detach()
        self._forget_picture()
        super().close()

    def _shown_session(self) -> Session | None:
        return self.session

    def _listen(self) -> Callable[[], None]:
        """Have the present Snapshot of the Session drawn, and newer ones; return what ends that."""
        assert self.session is not None
        return listen(self.session, self._draw_if_current(self.session), self.patience)

    def _draw_if_current(self, session: Session) -> Callable[[Snapshot], None]:
        def draw(snapshot: Snapshot) -> None:
            if self.session is not session or not self.visible:
                return
            self._drawn_of.session = session
            try:
                with suppress(_AttachedElsewhereError):
                    self.draw(snapshot)
            finally:
                del self._drawn_of.session

        return draw

    def _mark_if_current(self, session: Session) -> Callable[[Marks], None]:
        def mark(marks: Marks) -> None:
            if self.session is session:
                with self.publishing():
                    self.mark(marks)

        return mark

    def _on_visible(self, change: dict[str, Any]) -> None:
        with self._lock:
            if change["new"] and self._leave:
                leave = self._leave.pop()
                self._leave.append(self._listen())  # before leaving: the same Feed goes on
                leave()

    def _on_message(self, _widget: Any, content: dict[str, Any], buffers: list[Any]) -> None:
        try:
            self.receive(content, buffers)
        except Exception:  # a page that sends nonsense must not end the kernel's handling of messages
            _log.exception("A message of the page could not be handled.")
