"""What a page wishes to open, and the thread that opens it.

Everything that opens something makes a ``Wish``: a choice from a list, a path, an upload, a link. One
thread follows them; of several made while one is being followed, only the last counts.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from workbench.errors import WorkbenchError

from .opening import Misfit, Packed, Source, holds_the_same, open_session, read_packed
from .sources import DEFAULTS, default_model, known_names

if TYPE_CHECKING:
    from workbench.session import Session


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wish:
    """What to open: a model and a data set, the recipe (YAML) and the locks to put on, and who asked.

    ``ticket`` is the dialog's number for it, ``link`` the page's number for a link; 0 where there is none.
    """

    model: Source
    data: Source
    recipe: str = ""
    locked: tuple[str, ...] = ()
    ticket: int = 0
    link: int = 0

    def opens_the_same(self, other: Wish) -> bool:
        """Whether both open the same model and data; an empty name is the default's."""

        def names(wish: Wish) -> tuple[str, str]:
            return wish.model.address or DEFAULTS["model"], wish.data.address or DEFAULTS["data"]

        return names(self) == names(other)


@dataclass(frozen=True)
class Outcome:
    """What came of a wish: a Session, or the sentence that says why there is none.

    ``wish`` has the recipe that came with a packed file; ``model`` is where the model really came from.
    ``misfit`` is set where both parts are sound but don't fit together; ``remark`` is for the person.
    """

    wish: Wish
    model: Source
    session: Session | None = None
    problem: str = ""
    misfit: Misfit | None = None
    remark: str = ""


class Loader:
    """Follows wishes on a thread of its own, which ends when there are none.

    ``original`` finds the model that a packed file was made from. ``begun`` is called with each wish that is
    being followed, and with None when nothing is left to do; ``arrived`` with each outcome; ``dropped`` with
    each wish that a newer one replaced.
    """

    def __init__(
        self,
        original: Callable[[Packed], Source],
        begun: Callable[[Wish | None], None],
        arrived: Callable[[Outcome], None],
        dropped: Callable[[Wish], None],
    ) -> None:
        self._original, self._begun, self._arrived, self._dropped = original, begun, arrived, dropped
        self._lock = threading.Lock()
        self._wish: Wish | None = None
        self._followed: Wish | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether something is being loaded."""
        return self._thread is not None

    @property
    def wished(self) -> Wish | None:
        """The newest wish of which nothing has come yet."""
        with self._lock:
            return self._wish or self._followed

    def follow(self, wish: Wish) -> threading.Thread:
        """Follow ``wish`` in place of one that has not been begun; return the thread."""
        with self._lock:
            replaced, self._wish = self._wish, wish
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="workbench-load")
                self._thread.start()
            thread = self._thread
        if replaced is not None:
            self._dropped(replaced)
        return thread

    def _run(self) -> None:
        while True:
            with self._lock:
                wish, self._wish = self._wish, None
                self._followed = wish
                if wish is None:
                    self._thread = None
                    self._begun(None)  # before another thread may begin
                    return
            try:
                self._follow(wish)
            except Exception:  # a listener that fails must not end the following of later wishes
                _log.exception("What was opened could not be shown.")

    def _follow(self, wish: Wish) -> None:
        self._begun(wish)
        outcome = self._load(wish)
        with self._lock:
            newer = self._wish
            if newer is not None and outcome.session is not None and newer.opens_the_same(wish):
                # a link came while the very model it names was being loaded
                outcome, self._wish, newer = replace(outcome, wish=newer), None, None
            self._followed = None
        if newer is None:
            self._arrived(outcome)
            return
        if outcome.session is not None:
            outcome.session.close()
        self._dropped(wish)

    def _load(self, wish: Wish) -> Outcome:
        model, packed = wish.model, wish.model.is_packed
        try:
            if packed:
                said = read_packed(wish.model.given)
                wish = replace(wish, recipe=said.recipe)
                model = self._original(said)
            given = model.given or default_model(known_names("model"))
            session = open_session(given, wish.data.given or DEFAULTS["data"])
        except Misfit as misfit:
            return Outcome(wish, model, problem=_as_uploaded(str(misfit), wish), misfit=misfit)
        except Exception as error:  # whatever went wrong belongs on the page, as a sentence
            return Outcome(wish, model, problem=_as_uploaded(str(error) or type(error).__name__, wish))
        return Outcome(wish, model, session)


def _as_uploaded(problem: str, wish: Wish) -> str:
    """Call uploaded files as the person does: the folder they lie in here is nobody's business."""
    for source in (wish.model, wish.data):
        if source.is_uploaded:
            problem = problem.replace(f"{source.given.parent}{os.sep}", "")
    return problem


def remark_on(session: Session, wish: Wish) -> str:
    """Say so where a packed file has other weights than its recipe gives here."""
    if not wish.model.is_packed:
        return ""
    try:
        if holds_the_same(session, wish.model.given):
            return ""
    except WorkbenchError:  # a step that was trained elsewhere: the page says so where it shows the recipe
        return ""
    return f"the weights in {wish.model.name} differ from what its recipe gives here, which is shown"
