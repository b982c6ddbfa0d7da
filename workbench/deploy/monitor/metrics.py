"""A monitor's figures for Prometheus, made when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .watch import Monitor

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PREFIX = "workbench"


class MonitorCollector:
    """What ``prometheus_client`` asks at every scrape; nothing is counted twice while predictions are served."""

    def __init__(self, monitor: Monitor, model: str) -> None:
        self._monitor, self._model = monitor, model

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics, each labelled with the model."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily

        status: dict[str, Any] = dict(self._monitor.status())
        labels = ["model"]

        def counter(name: str, told: str, value: float) -> Metric:
            family = CounterMetricFamily(f"{PREFIX}_{name}", told, labels=labels)
            family.add_metric([self._model], value)
            return family

        yield counter("predictions", "Images answered.", status["predictions"])
        yield counter("failures", "Requests that the runtime could not answer.", status["failures"])
        yield counter("drift_alarms", "Windows that differed from the reference beyond chance.", status["alarms"])
        latency = SummaryMetricFamily(f"{PREFIX}_latency_seconds", "Time of an image in the runtime.", labels=labels)
        durations = self._monitor.durations
        latency.add_metric([self._model], durations.count, durations.total_ms / 1000)
        yield latency
        quantiles = GaugeMetricFamily(
            f"{PREFIX}_latency_quantile_seconds", "Percentiles of the latency.", labels=[*labels, "quantile"]
        )
        for name, value in status["latency_ms"].items():
            quantiles.add_metric([self._model, f"{int(name[1:]) / 100:g}"], value / 1000)
        yield quantiles
        answers = CounterMetricFamily(f"{PREFIX}_answers", "Answers by class.", labels=[*labels, "class"])
        for place, count in enumerate(status["classes"]):
            answers.add_metric([self._model, str(place)], count)
        yield answers
        psi = GaugeMetricFamily(
            f"{PREFIX}_psi", "Population stability index of the last window.", labels=[*labels, "feature"]
        )
        distance = GaugeMetricFamily(
            f"{PREFIX}_drift_distance", "Distance of the distributions.", labels=[*labels, "feature"]
        )
        for feature, drift in status["drift"].items():
            psi.add_metric([self._model, feature], drift["psi"])
            distance.add_metric([self._model, feature], drift["distance"])
        yield psi
        yield distance
        if "shadow" in status:
            shadow = status["shadow"]
            agreement = GaugeMetricFamily(
                f"{PREFIX}_shadow_agreement", "Same answers as the dense model.", labels=labels
            )
            agreement.add_metric([self._model], shadow["agreement"])
            yield agreement
            yield counter("shadow_compared", "Images that the dense model answered too.", shadow["compared"])


def exposition(monitor: Monitor, model: str) -> bytes:
    """Return the figures in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(MonitorCollector(monitor, model))
    found: bytes = generate_latest(registry)
    return found
