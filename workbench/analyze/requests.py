"""What is asked for beside a sweep: how metrics that need none rank the layers, and pairs of chosen layers.

It hangs on the Session like the sweeps (``studies``), one thing at a time, and is kept in the history.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.attached import OneJob, PerSession
from workbench.errors import WorkbenchError
from workbench.jobs import Job, Progress

from .finding import Question, Sensitivity
from .interactions import Interactions, interactions_of, measure_interactions
from .keeping import question_text
from .proxies import PROXIES, Proxy
from .ranking import RankingJob

if TYPE_CHECKING:
    from workbench.session import Session

#: What the history files the metrics under.
KIND = "proxies"


class Requests(OneJob):
    """Comparisons of metrics and interactions of one Session."""

    def __init__(self) -> None:
        super().__init__()
        self._proxies: dict[str, Mapping[str, Proxy]] = {}
        self.pairs: Interactions | None = None
        self.technique = ""

    def proxies(self, session: Session, question: Question) -> Mapping[str, Proxy]:
        """Return the metrics known for ``question``, by name; those of another day come from the history."""
        text = question_text(question)
        with self._lock:
            if text not in self._proxies:
                self._proxies[text] = _recall(session, text, question)
            return self._proxies[text]

    def compare(self, session: Session, found: Sensitivity) -> RankingJob:
        """Start finding the metrics that need no sweep, for what ``found`` asked."""
        text = question_text(found.question)
        job = RankingJob(session, found)

        def follow(progress: Progress) -> None:
            with self._lock:
                self._proxies[text] = {**self._proxies.get(text, {}), **job.latest}
            if progress.state == "done":
                content = json.dumps([_plain(proxy) for proxy in job.latest.values()]).encode()
                with contextlib.suppress(WorkbenchError):  # then they are found again another day
                    session.history.keep_finding(session.keys[-1], KIND, text, content, done=True)

        self._start(job, found.question.technique, follow)
        return job

    def pair(
        self, session: Session, layers: Sequence[str], question: Question, level: Any, tolerance: float | None
    ) -> None:
        """Start measuring ``layers`` alone and in pairs at ``level``, with the other settings of ``question``.

        Raises ``WorkbenchError`` as ``measure_interactions`` does.
        """
        job = measure_interactions(
            session, layers, question.technique, setting=question.setting, level=level, settings=question.settings,
            tolerance=tolerance,
        )  # fmt: skip

        def follow(_: Progress) -> None:
            if job.latest is not None:
                self.pairs = interactions_of(job.latest)

        self._start(job, question.technique, follow)

    def _start(self, job: Job[Any], technique: str, note: Callable[[Progress], None]) -> None:
        def name() -> None:
            self.technique = technique

        self._begin(job, note, reset=name)


#: What was asked for in a Session.
requests_of: PerSession[Requests] = PerSession(lambda session: Requests())


def _plain(proxy: Proxy) -> dict[str, Any]:
    score = [[value if np.isfinite(value) else None for value in row] for row in proxy.score.tolist()]
    return {"name": proxy.name, "score": score, "seconds": proxy.seconds, "problem": proxy.problem}


def _recall(session: Session, text: str, question: Question) -> dict[str, Proxy]:
    """Return what the history keeps; what is damaged, or of other cells, is as if it were not there."""
    found: dict[str, Proxy] = {}
    with contextlib.suppress(WorkbenchError, ValueError, KeyError, TypeError):
        kept = session.history.finding(session.keys[-1], KIND, text)
        for row in json.loads(kept.payload) if kept else ():
            score = np.array(row["score"], np.float64)  # None becomes NaN
            if row["name"] in PROXIES and score.shape == (len(question.layers), len(question.levels)):
                found[row["name"]] = Proxy(row["name"], score, float(row["seconds"]), str(row["problem"]))
    return found
