"""How well each metric ranks the layers of this very model: beside the measured drop, with Spearman and Kendall.

A layer's place by a metric is its mean over the levels, or one level's; the reference is the accuracy lost, as
measured. Metrics that rank well are ones to trust where no sweep was made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.jobs import Job

from .finding import Floats, Sensitivity
from .proxies import PROXIES, Proxy, ProxySource

if TYPE_CHECKING:
    from workbench.session import Session

#: Metrics of the sweep's own runs.
OF_RUNS = ("drop", "disagreement", "loss", "kl", "logit_mse", "sqnr")


@dataclass(frozen=True)
class Ranked:
    """One metric: its ``score`` for each layer (the larger, the worse), its agreement with the measured drop.

    ``spearman`` and ``kendall`` (tau-b) are rank correlations over the layers, NaN where a metric says nothing.
    ``seconds`` is what it cost; None for those that came with the sweep.
    """

    name: str
    score: Floats
    spearman: float
    kendall: float
    seconds: float | None
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON; NaN becomes None."""
        data = dataclasses.asdict(self)
        data["score"] = [None if not np.isfinite(value) else float(value) for value in self.score]
        for name in ("spearman", "kendall"):
            data[name] = None if not np.isfinite(data[name]) else data[name]
        return data


def rank_metrics(
    found: Sensitivity, proxies: Mapping[str, Proxy] | None = None, level: Any = None
) -> tuple[Ranked, ...]:
    """Return every metric's ranking of the layers of ``found`` at ``level``, or by the mean over all levels."""
    column = None if level is None else found.levels.index(level)
    drop = _of_layers(found.harm("drop").value, column)
    ranked = [_ranked(name, _of_layers(found.harm(name).value, column), drop, None, "") for name in OF_RUNS]
    for name, proxy in (proxies or {}).items():
        score = _of_layers(proxy.score, column)
        ranked.append(_ranked(name, score, drop, proxy.seconds, proxy.problem))
    return tuple(ranked)


class RankingJob(Job[Mapping[str, Proxy]]):
    """Finds the metrics that need no sweep, for the question of ``found``, one after the other; ``latest`` so far."""

    def __init__(self, session: Session, found: Sensitivity, names: tuple[str, ...] = PROXIES) -> None:
        self.latest: dict[str, Proxy] = {}

        def work(job: Job[Mapping[str, Proxy]]) -> Mapping[str, Proxy]:
            session.give_way(lambda: job.cancelled)
            footing = session.footing(job.check)
            source = ProxySource(footing.subject, footing.context, found.question)
            for count, name in enumerate(names, start=1):
                session.give_way(lambda: job.cancelled)
                job.check()
                self.latest = {**self.latest, name: source.find(name)}
                job.advance(count, len(names))
            return self.latest

        super().__init__("comparison of metrics", work, total=len(names))


def _of_layers(values: Floats, column: int | None) -> Floats:
    if column is not None:
        return np.asarray(values[:, column])
    with np.errstate(invalid="ignore"):
        finite = np.where(np.isinf(values), np.nan, values)  # an unchanged cell has no noise: -inf dB
        return np.array([row[~np.isnan(row)].mean() if (~np.isnan(row)).any() else np.nan for row in finite])


def _ranked(name: str, score: Floats, drop: Floats, seconds: float | None, problem: str) -> Ranked:
    from scipy.stats import kendalltau, spearmanr

    known = np.isfinite(score) & np.isfinite(drop)
    few = known.sum() < 3 or np.ptp(score[known]) == 0 or np.ptp(drop[known]) == 0
    spearman, kendall = (
        (np.nan, np.nan)
        if few
        else (spearmanr(score[known], drop[known]).statistic, kendalltau(score[known], drop[known]).statistic)
    )
    return Ranked(name, score, float(spearman), float(kendall), seconds, problem)
