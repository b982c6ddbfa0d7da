"""The student designer: what a narrower or shallower architecture would need, told while the sliders move."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from workbench.models.designs import Design
    from workbench.session import Session
    from workbench.train.teaching.designing import Figures


def bases(session: Session) -> list[dict[str, Any]]:
    """Return the architectures that take the session's images, and whether depth changes anything."""
    from workbench.models.load import ZOO_SHAPE
    from workbench.models.zoo.scaling import SCALED

    if session.data.image_shape != ZOO_SHAPE:
        return []
    return [{"name": name, "deep": deep} for name, (_, deep) in SCALED.items()]


def design_from(content: dict[str, Any]) -> Design:
    """Return what the page asks for; raises ``WorkbenchError`` where it makes no sense."""
    from workbench.models.designs import Design

    return Design(str(content.get("base")), None, float(content.get("width", 1)), float(content.get("depth", 1)))


class Designer:
    """Answers with a design's figures: sizes at once, then the measured latency; only the newest wish counts."""

    def __init__(self, told: Callable[[dict[str, Any]], None]) -> None:
        self._told = told
        self._newest = 0
        self._teachers: dict[int, Figures] = {}
        self._timing = threading.Lock()

    def ask(self, session: Session, content: dict[str, Any]) -> threading.Thread:
        """Look at a design; return the thread that does."""
        self._newest = number = int(content.get("number", 0))
        thread = threading.Thread(
            target=self._answer, args=(session, content, number), daemon=True, name="workbench-design"
        )
        thread.start()
        return thread

    def _answer(self, session: Session, content: dict[str, Any], number: int) -> None:
        from workbench.train.teaching.designing import designed, figures

        def old() -> bool:
            return self._newest != number

        def tell(**what: Any) -> None:
            if not old():
                self._told({"number": number, "teacher": {}, "student": {}, "problem": "", **what})

        try:
            student = designed(design_from(content), session.data)
            teacher = self._teachers.get(id(session)) or figures(session.model, session.data, timed=False)
            tell(student=figures(student, session.data, timed=False).to_json(), teacher=teacher.to_json())
            with self._timing:  # two at once would slow each other down
                if old():
                    return
                if teacher.latency is None:
                    teacher = self._teachers[id(session)] = figures(session.model, session.data)
                timed = figures(student, session.data, old)
            tell(student=timed.to_json(), teacher=teacher.to_json())
        except (WorkbenchError, ValueError) as refused:
            tell(problem=str(refused))
