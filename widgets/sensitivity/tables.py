"""The two tables beside the map: how each metric ranks the layers, and where pairs of layers do not add up; and how
far the work has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.analyze.proxies import LABEL_FREE
from workbench.analyze.ranking import OF_RUNS, rank_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workbench.analyze.interactions import Interactions
    from workbench.analyze.proxies import Proxy
    from workbench.analyze.requests import Requests
    from workbench.analyze.sensitivity import Sensitivity
    from workbench.analyze.studies import Studies

LABELS = {
    "drop": "accuracy lost", "disagreement": "other answers", "loss": "loss", "kl": "KL", "logit_mse": "logit change",
    "sqnr": "signal to noise", "weight_error": "weight error", "taylor": "Taylor", "fisher": "Fisher", "fit": "FIT",
    "hessian_trace": "Hessian trace", "hawq": "HAWQ", "conductance": "conductance",
    "grad_activation": "gradient × activation",
}  # fmt: skip
#: Figures of the sweep's runs that look at no label.
UNLABELLED = ("disagreement", "kl", "logit_mse", "sqnr", *LABEL_FREE)


def ranking(found: Sensitivity | None, proxies: Mapping[str, Proxy]) -> dict[str, Any]:
    """Return each metric's ranks of the layers (1: the most sensitive), best agreeing first; empty without a sweep.

    ``rows`` are the layers' places in order of the measured drop.
    """
    if found is None or not found.known:
        return {}
    ranked = rank_metrics(found, proxies)
    reference, others = ranked[0], ranked[1:]
    rows = np.argsort(-np.nan_to_num(reference.score, nan=-np.inf), kind="stable")
    order = sorted(others, key=lambda metric: -np.nan_to_num(metric.spearman, nan=-2.0))
    return {
        "rows": rows.tolist(),
        "drop": [round(100 * float(value), 3) for value in reference.score],
        "metrics": [
            {
                "name": metric.name,
                "label": LABELS[metric.name],
                "of_runs": metric.name in OF_RUNS,
                "label_free": metric.name in UNLABELLED,
                "spearman": None if np.isnan(metric.spearman) else round(metric.spearman, 3),
                "seconds": None if metric.seconds is None else round(metric.seconds, 2),
                "problem": metric.problem,
                "ranks": _ranks(metric.score),
            }
            for metric in order
        ],
    }


def pairs(found: Interactions | None, layers: Sequence[str]) -> dict[str, Any]:
    """Return the matrix of interactions in points, None where nothing is known yet; empty where none was asked for."""
    if found is None or not set(found.layers) <= set(layers):
        return {}

    def points(values: Any) -> list[list[float | None]]:
        return [[None if np.isnan(value) else round(100 * float(value), 2) for value in row] for row in values]

    return {
        "layers": [layers.index(name) for name in found.layers],
        "level": found.level,
        "technique": found.found.question.technique,
        "value": points(found.value),
        "half": points(found.half),
    }


def asked(requests: Requests) -> dict[str, Any]:
    """Return how far the work on request has come; empty where nothing was asked for."""
    progress = requests.progress
    if progress is None:
        return {}
    return {"state": progress.state, "share": round(progress.share, 3), "error": progress.error}


def course(studies: Studies) -> dict[str, Any]:
    """Return how far the sweep that runs, or ran last, has come; empty where there was none."""
    progress = studies.progress
    if progress is None:
        return {}
    left = None if progress.left is None else round(progress.left, 1)
    return {
        "state": progress.state,
        "technique": studies.technique,
        "mode": studies.mode,
        "tolerance": studies.tolerance,
        "share": round(progress.share, 4),
        "seconds": round(progress.seconds, 1),
        "left": left,
        "error": progress.error or studies.trouble,
    }


def _ranks(score: Any) -> list[int | None]:
    known = np.isfinite(score)
    place = np.empty(len(score), np.int64)
    place[np.argsort(-np.where(known, score, -np.inf), kind="stable")] = np.arange(1, len(score) + 1)
    return [int(rank) if there else None for rank, there in zip(place, known, strict=True)]
