"""Predictions of an estimator: what they are scaled by, once the dense model was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest

import workbench as wb
from workbench.compression import compress_subject, context_for
from workbench.evaluation import Evaluator
from workbench.graphs import Graphs
from workbench.latency import LatencyEstimator
from workbench.run.onnx_export import export_graph
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


RECIPES = (
    "[]",
    "- quantize: {bits: 4}",
    "- quantize: {bits: 2}",
    "- quantize: {bits: 3, per: group, group_size: 4}",
    "- quantize: {format: fp16}",
    "- quantize: {format: apot, bits: 5}",
    "- share: {bits: 3}",
    "- share: {bits: 2, scope: group, group: 4}",
    "- prune: {ratio: 0.7}\n- share: {bits: 3}",
    "- prune: {granularity: filter, ratio: 0.4}\n- quantize: {bits: 8}",
    "- factorize: {scheme: tucker, size: 0.4}",
    "- factorize: {size: 0.3}\n- quantize: {bits: 4}",
)


DEPTHWISE = ("- prune: {granularity: filter, ratio: 0.4}\n- quantize: {bits: 8}",)


@pytest.mark.parametrize(("name", "recipes"), [("lenet5", RECIPES), ("mobilenetv2", DEPTHWISE)])
def test_the_size_of_a_file_is_that_of_the_one_that_is_written(name: str, recipes: tuple[str, ...]) -> None:
    model, data = wb.load_model(name), wb.load_dataset("fashion_mnist")
    subject, context = Subject.of(model, data.image_shape), context_for(model, data)
    graphs = Graphs(subject, lambda: export_graph(model.module, data.image_shape))
    estimator = LatencyEstimator(subject, graphs, data, data.normalization)
    for text in recipes:
        compressed = compress_subject(subject, wb.Recipe.parse(text), context)
        assert estimator.runtime_bytes(compressed) == len(estimator.file(compressed).SerializeToString()), text
