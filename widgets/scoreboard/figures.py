"""What the scoreboard shows of a Snapshot, as plain data; the page only formats it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.analyze.classes import Change, ClassReport
    from workbench.measure.devices import Energy, Forecast
    from workbench.measure.estimate import Estimate, Latency, Size
    from workbench.recipe import Recipe
    from workbench.snapshot import Snapshot

Figure = dict[str, Any]


def accuracy_figure(snapshot: Snapshot, move: int) -> Figure | None:
    """Return the accuracy's figure, or None while this Recipe has none yet.

    Where the images have no labels it is the agreement's, and its ``metric`` says so. ``move`` is the page's number
    of the last move that had been heard of.
    """
    if snapshot.score is None:
        return None
    return _estimate(snapshot.score) | {
        "metric": "accuracy" if snapshot.accuracy else "agreement",
        "recipe": snapshot.recipe_hash,
        "move": move,
        "runtime": snapshot.runtime,
        "agreement": round(snapshot.agreement.value, 4) if snapshot.agreement else None,
    }


def size_figure(snapshot: Snapshot, move: int) -> Figure | None:
    """Return the packed file's bytes with the two sizes it must not be mixed up with, of the move as accuracy."""
    return _size(snapshot.size) | {"recipe": snapshot.recipe_hash, "move": move} if snapshot.size else None


def latency_figure(snapshot: Snapshot, elsewhere: tuple[Forecast, Energy | None] | None = None) -> Figure | None:
    """Return the predicted latency, with the measured one beside it where there is one.

    ``elsewhere``: on a described device, the time ÷ the baseline's, and the energy of an image.
    """
    latency = snapshot.latency or snapshot.measured_latency
    if latency is None:
        return None
    measured = snapshot.measured_latency
    return _latency(latency) | {
        "recipe": snapshot.recipe_hash,
        "measured": _latency(measured) if measured else None,
        "ratio": _ratio(elsewhere[0]) if elsewhere else None,
        "energy": elsewhere[1].to_json() if elsewhere and elsewhere[1] else None,
    }


def baseline_figures(snapshot: Snapshot) -> Figure:
    """Return the three figures of the dense model, each None while it is being measured."""
    baseline = snapshot.baseline
    return {
        "accuracy": _estimate(baseline.score) if baseline.score else None,
        "size": _size(baseline.size) if baseline.size else None,
        "latency": _latency(baseline.latency) if baseline.latency else None,
    }


def harm_figure(recipe: Recipe, report: ClassReport) -> Figure:
    """Return the classes that ``recipe`` hurts beyond chance, the worst first, in points; and all images together."""
    return {
        "recipe": recipe.hash,
        "hurt": [{"name": row.name, **_points(row.change)} for row in report.hurt],
        "overall": _points(report.overall),
        "n": report.n,
    }


def progress(snapshot: Snapshot) -> Figure:
    """Return which Recipe is being worked on, and whether it is done."""
    predicted = snapshot.predicted
    return {
        "recipe": snapshot.recipe_hash,
        "settled": snapshot.settled,
        "predicted": _estimate(predicted) if predicted else None,
        "doing": snapshot.doing,
        "error": snapshot.error or "",
    }


def _ratio(ratio: Forecast) -> Figure:
    return {"value": round(ratio.ms, 4), "low": round(ratio.low, 4), "high": round(ratio.high, 4)}


def _estimate(estimate: Estimate) -> Figure:
    return {
        "value": round(estimate.value, 6), "low": round(estimate.low, 6), "high": round(estimate.high, 6),
        "n": estimate.n, "kind": estimate.kind, "split": estimate.split,
    }  # fmt: skip


def _points(change: Change) -> Figure:
    return {key: round(100 * getattr(change, key), 2) for key in ("value", "low", "high")}


def _size(size: Size) -> Figure:
    return {
        "bytes": size.bytes, "dense": size.dense_fp32_bytes, "runtime": size.runtime_bytes,
        "entropy": size.entropy_bytes, "kind": size.kind,
    }  # fmt: skip


def _latency(latency: Latency) -> Figure:
    return {
        "value": round(latency.ms, 5), "low": round(latency.low, 5), "high": round(latency.high, 5),
        "kind": latency.kind, "device": latency.device, "runtime": latency.runtime, "batch": latency.batch,
        "reason": latency.reason,
    }  # fmt: skip
