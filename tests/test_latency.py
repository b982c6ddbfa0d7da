"""Predictions of an estimator: what they are scaled by, once the dense model was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

import workbench as wb
from workbench.compression import compress_subject, context_for
from workbench.evaluation import Evaluator
from workbench.latency import LatencyEstimator
from workbench.subject import Subject

INT8 = "- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}"


def test_each_number_type_is_scaled_by_the_dense_model_measured_in_it() -> None:
    model, data = wb.load_model("lenet300"), wb.load_dataset("fashion_mnist")
    subject, context = Subject.of(model, data.image_shape), context_for(model, data)
    graphs = Evaluator(subject, data["test"], data.normalization).graphs
    estimator = LatencyEstimator(subject, graphs, data, data.normalization)
    dense, rounded, pruned = (
        compress_subject(subject, wb.Recipe.parse(text), context)
        for text in ("[]", INT8, f"- prune: {{granularity: filter, ratio: 0.5}}\n{INT8}")
    )
    plain, raw, smaller = (estimator.predict(one) for one in (dense, rounded, pruned))
    assert plain is not None
    assert raw is not None
    assert smaller is not None
    estimator.scale_by(replace(plain, ms=1.3 * plain.ms), replace(raw, ms=0.8 * raw.ms))
    for compressed, before, ratio in ((dense, plain, 1.3), (rounded, raw, 0.8), (pruned, smaller, 0.8)):
        after = estimator.predict(compressed)
        assert after is not None
        assert after.ms == pytest.approx(ratio * before.ms)
    estimator.scale_by(replace(plain, ms=1.44 * plain.ms))
    alone = estimator.predict(pruned)
    assert alone is not None
    # of another number type it tells half, less what a crowded cache explains
    assert 0.99 * smaller.ms <= alone.ms <= 1.201 * smaller.ms
