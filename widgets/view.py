"""What the views have in common: a Session to draw, a lock, and their sources.

Threads: the page's messages arrive on the kernel's main thread (Voila) or on a subshell's (JupyterLab),
Snapshots on the Feed's. Both set traits of the same widget, and ipywidgets' bookkeeping of what the
page already knows is not thread-safe, so everything that touches a trait holds the view's lock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import anywidget

from .feed import listen

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.snapshot import Snapshot

_HERE = Path(__file__).parent


def source(*names: str) -> str:
    """Return the text of this folder's files, one after the other."""
    return "\n".join((_HERE / name).read_text(encoding="utf-8") for name in names)


class View(anywidget.AnyWidget):
    """A widget that draws one Session's Snapshots; subclasses write ``draw`` and maybe ``begin``."""

    #: Seconds a view that computes lets a Recipe's first accuracy go before it.
    patience: ClassVar[float] = 0.0

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._lock = threading.RLock()
        self._leave: Callable[[], None] | None = None
        self.session: Session | None = None
        super().__init__(**traits)
        if session is not None:
            self.attach(session)

    def attach(self, session: Session) -> None:
        """Draw ``session`` from now on, instead of the one before."""
        self.detach()
        self.session = session
        with self.publishing():
            self.begin(session)
        self._leave = listen(session, self._draw_if_current(session), self.patience)

    def detach(self) -> None:
        """Stop drawing; the last figures stay."""
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()

    def begin(self, session: Session) -> None:
        """Set what stays the same for the whole Session."""

    def draw(self, snapshot: Snapshot) -> None:
        """Set the traits that show ``snapshot``."""
        raise NotImplementedError

    @contextmanager
    def publishing(self) -> Iterator[None]:
        """Hold the lock and send all traits set meanwhile as one message."""
        with self._lock, self.hold_sync():
            yield

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take a change made on the page."""
        with self._lock:
            super().set_state(sync_data)

    def close(self) -> None:
        """Leave the Session and the page."""
        self.detach()
        super().close()

    def _draw_if_current(self, session: Session) -> Callable[[Snapshot], None]:
        def draw(snapshot: Snapshot) -> None:
            if self.session is session:
                self.draw(snapshot)

        return draw
