"""What a map of a sweep can show: each figure that its runs gave, and how the page draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.measure.shares import Interval

if TYPE_CHECKING:
    from workbench.analyze.sensitivity import Sensitivity

#: Name → how it is drawn. The harm is ``factor * (figure - offset)``: 0 as the dense model, the larger, the worse.
#: ``ticks`` are harms on the scale of colours, of which the last has the darkest; ``log`` makes it steep near
#: nothing; ``fine`` is a half-width narrow enough to rely on; ``sign`` turns a harm into the number that is shown.
METRICS: dict[str, dict[str, Any]] = {
    "drop": {
        "label": "Accuracy lost", "scale": "Points lost", "unit": "points", "factor": -100.0, "sign": 1,
        "ticks": [0, 1, 2, 5, 10, 20, 50], "log": True, "fine": 1.0, "digits": 1,
    },
    "agreement": {
        "label": "Other answers", "scale": "Other answers, %", "unit": "% other answers",
        "factor": -100.0, "sign": 1, "ticks": [0, 1, 2, 5, 10, 20, 50], "log": True, "fine": 1.0, "digits": 1,
    },
    "loss": {
        "label": "Rise of the loss", "scale": "Loss risen, nats", "unit": "nats more", "factor": 1.0,
        "sign": 1, "ticks": [0, 0.01, 0.03, 0.1, 0.3, 1], "log": True, "fine": 0.01, "digits": 3,
    },
    "kl": {
        "label": "Divergence (KL)", "scale": "KL, nats", "unit": "nats of divergence",
        "factor": 1.0, "sign": 1, "ticks": [0, 0.01, 0.03, 0.1, 0.3, 1], "log": True, "fine": 0.01, "digits": 3,
    },
    "logit_mse": {
        "label": "Change of logits", "scale": "Change of logits", "unit": "mean squared change",
        "factor": 1.0, "sign": 1, "ticks": [0, 1, 2, 5, 10, 20, 50], "log": True, "fine": 0.2, "digits": 2,
    },
    "sqnr": {
        "label": "Signal to noise", "scale": "Signal to noise, dB", "unit": "dB", "factor": -1.0,
        "sign": -1, "ticks": [-40, -30, -20, -10, 0], "log": False, "fine": 3.0, "digits": 0,
    },
}  # fmt: skip


#: How the accuracy is called where the images have no labels, and the figure that then is none.
WITHOUT_LABELS = {"label": "Agreement lost", "scale": "Points of agreement lost"}


def offered(labelled: bool) -> list[list[str]]:
    """Return name and label of what a map can show."""
    if labelled:
        return [[name, how["label"]] for name, how in METRICS.items()]
    return [
        [name, WITHOUT_LABELS["label"] if name == "drop" else how["label"]]
        for name, how in METRICS.items()
        if name not in ("loss", "agreement")
    ]


def figures_of(found: Sensitivity, metric: str) -> Interval:
    """Return the figure named ``metric`` of every cell, ``(layers, levels)``, with its interval."""
    if metric == "drop":
        return Interval(found.value, found.low, found.high)
    if metric == "sqnr":
        value, low, high = found.harm("sqnr")
        return Interval(-value, -high, -low)
    return found.measured[metric]


def described(found: Sensitivity, metric: str) -> dict[str, Any]:
    """Return how the page draws ``metric`` of this sweep."""
    offset = {"drop": found.baseline.value, "agreement": 1.0, "loss": found.loss}.get(metric, 0.0)
    words = WITHOUT_LABELS if metric == "drop" and not found.labelled else {}
    return {"name": metric, "offset": float(offset), **METRICS[metric], **words}


def about(found: Sensitivity | None, metric: str) -> dict[str, Any]:
    """Return what the page says of a sweep, and how it draws ``metric``; empty where there is none."""
    if found is None:
        return {}
    known = found.n[found.n > 0]
    return {
        "baseline": found.baseline.value,
        "metric": described(found, metric),
        "split": found.baseline.split,
        "order": 1.0 if found.exact else found.order,
        "places": None if (places := found.ranking()) is None else places.tolist(),
        "total": found.total,
        "fewest": int(found.n.min()),
        "most": int(known.max()) if known.size else 0,
        "levels": list(found.levels),
        "settings": {name: value for name, value in found.question.settings.items() if name != "scope"},
    }
