"""Each part's finding as plain data for the page, which only formats it. NaN becomes None: JSON has none."""

from __future__ import annotations

from math import isnan
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workbench.analyze.attribution import Attribution
    from workbench.analyze.calibration import Calibration
    from workbench.analyze.classes import Change, ClassReport, Share
    from workbench.analyze.corruptions import Robustness
    from workbench.analyze.drift import Drift
    from workbench.analyze.teacher import Against, TeacherReport

Data = dict[str, Any]


def class_rows(report: ClassReport) -> Data:
    """Return every class with its accuracy before and after, its flips and whether it is hurt."""
    return {
        "sentence": report.sentence(),
        "n": report.n,
        "overall": _change(report.overall),
        "rows": [
            {
                "name": row.name, "before": _share(row.before), "after": _share(row.after), "lost": row.lost,
                "won": row.won, "change": _change(row.change), "p": round(row.p, 5), "hurt": row.hurt,
            }
            for row in report.rows
        ],
    }  # fmt: skip


def reliability(before: Calibration, after: Calibration) -> Data:
    """Return both models' bins and errors."""

    def side(found: Calibration) -> Data:
        bins = [[round(one.confidence, 4), *_share(one.accuracy)[:3], one.accuracy.n] for one in found.bins]
        return {"bins": bins, "error": round(found.error, 5), "over": round(found.overconfidence, 5)}

    return {"before": side(before), "after": side(after)}


def teacher_rows(report: TeacherReport) -> Data:
    """Return teacher and student beside each other: all images, then class by class."""

    def side(found: Against) -> Data:
        return {
            "name": found.name, "teacher": found.teacher and _share(found.teacher),
            "before": found.before and _share(found.before), "after": found.after and _share(found.after),
            "agree_before": _share(found.agree_before), "agree_after": _share(found.agree_after),
            "only_teacher": found.only_teacher,
            "only_student": found.only_student,
        }  # fmt: skip

    return {
        "teacher": report.name, "sentence": report.sentence(), "all": side(report.overall),
        "divergence": [round(value, 5) for value in report.divergence], "rows": [side(row) for row in report.rows],
    }  # fmt: skip


def drift_rows(drift: Drift) -> Data:
    """Return every layer's drift, and where it first goes wrong."""
    return {
        "sentence": drift.sentence(),
        "first": drift.first,
        "n": drift.n,
        "output": _finite(drift.output),
        "rows": [
            {"name": row.name, **{key: _finite(getattr(row, key)) for key in ("sqnr", "own", "cosine", "cka")}}
            for row in drift.layers
        ],
    }


def attribution_facts(found: Attribution) -> Data:
    """Return what is told beside the two maps."""
    return {
        "method": found.method,
        "target": found.target,
        "scale": found.scale,
        "similarity": _finite(found.similarity),
        "size": list(found.before.shape),
    }


def corruption_rows(rows: Iterable[Robustness]) -> list[Data]:
    """Return both models' accuracy on each corruption and strength."""
    return [
        {
            "corruption": row.corruption, "strength": row.strength, "before": _share(row.before),
            "after": _share(row.after), "change": _change(row.change),
        }
        for row in rows
    ]  # fmt: skip


def _share(share: Share) -> list[float]:
    return [round(share.value, 5), round(share.low, 5), round(share.high, 5), share.n]


def _change(change: Change) -> list[float]:
    return [round(change.value, 5), round(change.low, 5), round(change.high, 5)]


def _finite(value: float) -> float | None:
    return None if isnan(value) else round(value, 5)
