"""A recipe's accuracy is foreseen from the layers' curves, with an interval from its own past errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.analyze.sensitivity import Question, Sensitivity
from workbench.analyze.studies import studies_of
from workbench.analyze.surrogate import FIRST, LEAST, AccuracySurrogate
from workbench.compressed import CompressedModel
from workbench.compression import compress_subject, context_for
from workbench.measure.estimate import Estimate
from workbench.models.load import load_model
from workbench.models.zoo import ARCHITECTURES
from workbench.recipe import Recipe
from workbench.session import Session
from workbench.subject import Subject

LAYERS, TOTAL, DENSE = ("fc1", "fc2", "fc3"), 10_000, 0.9


def sweep(
    technique: str, setting: str, levels: tuple[float, ...], lost: list[list[float]], n: int = TOTAL
) -> Sensitivity:
    value = DENSE - np.array(lost)
    question = Question(technique, setting, levels, LAYERS, {"scope": "layer"} if technique == "prune" else {})
    baseline = Estimate.exact(DENSE, TOTAL, "test")
    return Sensitivity(question, baseline, value, value, value, np.full(value.shape, n))


def prune_sweep(n: int = TOTAL) -> Sensitivity:
    return sweep("prune", "ratio", (0.5, 0.8), [[0.08, 0.4], [0.0, 0.16], [0.04, 0.4]], n)


def bits_sweep() -> Sensitivity:
    return sweep("quantize", "bits", (8, 4, 2), [[0.0, 0.08, 0.4]] * 3)


class Compressor:
    """Compresses one small model."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        model = load_model(ARCHITECTURES["lenet300"]())
        self.subject = Subject.of(model, (1, 28, 28))
        self.context = context_for(model, wb.load_dataset("fashion_mnist"))

    def __call__(self, text: str) -> CompressedModel:
        return compress_subject(self.subject, Recipe.parse(text), self.context)


@pytest.fixture(scope="module")
def compress() -> Compressor:
    return Compressor()


@pytest.fixture
def surrogate(compress: Compressor) -> AccuracySurrogate:
    made = AccuracySurrogate(compress.subject, chance=0.1)
    made.learn([prune_sweep(), bits_sweep()])
    return made


def test_one_layer_at_a_swept_level_has_that_cells_accuracy(surrogate: AccuracySurrogate, compress: Compressor) -> None:
    for layer, ratio, lost in (("fc1", 0.5, 0.08), ("fc1", 0.8, 0.4), ("fc2", 0.8, 0.16)):
        foreseen = surrogate(compress(f"- prune: {{ratio: {ratio}, layers: [{layer}]}}"))
        assert foreseen is not None
        assert foreseen.value == pytest.approx(DENSE - lost, abs=0.001)
        assert foreseen.kind == "predicted"


def test_what_is_left_above_chance_multiplies_over_layers_and_techniques(
    surrogate: AccuracySurrogate, compress: Compressor
) -> None:
    foreseen = surrogate(compress("- prune: {ratio: 0.5, scope: layer}\n- quantize: {bits: 4, layers: [fc2]}"))
    assert foreseen is not None
    assert foreseen.value == pytest.approx(0.1 + 0.8 * 0.9 * 1.0 * 0.95 * 0.9, abs=0.001)


def test_a_global_ranking_is_read_by_what_it_takes_from_each_layer(
    surrogate: AccuracySurrogate, compress: Compressor
) -> None:
    found = compress("- prune: {ratio: 0.6}")
    zeros = {layer.name: layer.sparsity for layer in found.layers}
    assert zeros["fc3"] < zeros["fc1"]
    own = ", ".join(f"{name}: {{ratio: {share}}}" for name, share in zeros.items())
    alike = compress(f"- prune: {{ratio: 0.0, scope: layer, overrides: {{{own}}}}}")
    one, other = surrogate(found), surrogate(alike)
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(other.value, abs=1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "- prune: {granularity: filter, ratio: 0.5}",
        "- quantize: {bits: 4, scheme: symmetric}",
        "- quantize: {bits: 4, overrides: {fc1: {per: tensor}}}",
        "- quantize: {bits: 8, activations: {bits: 8}}",
        "- prune: {ratio: 0.2}\n- prune: {ratio: 0.3}",
    ],
)
def test_what_was_not_swept_is_not_foreseen(surrogate: AccuracySurrogate, compress: Compressor, text: str) -> None:
    assert surrogate(compress(text)) is None


def test_a_sweep_of_few_images_or_few_layers_is_not_used(compress: Compressor) -> None:
    made = AccuracySurrogate(compress.subject, chance=0.1)
    made.learn([prune_sweep(LEAST - 1)])
    assert not made.ready
    assert made(compress("- prune: {ratio: 0.5}")) is None


def test_noise_between_two_points_does_not_make_harsher_look_better(compress: Compressor) -> None:
    made = AccuracySurrogate(compress.subject, chance=0.1)
    made.learn([sweep("prune", "ratio", (0.2, 0.4, 0.6), [[0.02, 0.0, 0.04]] * 3)])
    foreseen = [
        made(compress(f"- prune: {{ratio: {ratio}, layers: [fc1]}}")) for ratio in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    ]
    values = [estimate.value for estimate in foreseen if estimate]
    assert len(values) == 6
    assert values == sorted(values, reverse=True)


def test_the_interval_starts_wide_and_follows_the_past_errors(
    surrogate: AccuracySurrogate, compress: Compressor
) -> None:
    recipes = [
        f"- prune: {{ratio: {ratio / 100}, layers: [{layer}]}}" for ratio, layer in product(range(20, 30), LAYERS)
    ]
    widths, held = [], []
    for number, text in enumerate(recipes):
        compressed = compress(text)
        foreseen = surrogate(compressed)
        assert foreseen is not None
        truth = foreseen.value + 0.002 * (-1) ** number
        held.append(foreseen.low <= truth <= foreseen.high)
        widths.append(foreseen.half_width)
        surrogate.note(compressed.recipe.hash, truth)
    assert all(width >= FIRST - 0.03 for width in widths[:19])  # cut at 100 %
    assert max(widths[20:]) < 0.02
    assert all(held)
    assert len(surrogate.errors) == len(recipes)
    assert np.abs(surrogate.errors).max() == pytest.approx(0.002, abs=1e-6)


def test_another_grid_forgets_what_was_learned_of_the_one_before(
    surrogate: AccuracySurrogate, compress: Compressor
) -> None:
    compressed = compress("- quantize: {bits: 4}")
    assert surrogate(compressed) is not None
    surrogate.note(compressed.recipe.hash, 0.7)
    assert len(surrogate.errors) == 1
    other = bits_sweep()
    question = Question("quantize", "bits", other.levels, LAYERS, {"scheme": "symmetric"})
    surrogate.learn([Sensitivity(question, other.baseline, other.value, other.low, other.high, other.n)])
    assert len(surrogate.errors) == 0
    assert surrogate(compressed) is None
    assert surrogate(compress("- quantize: {bits: 4, scheme: symmetric}")) is not None


# Studies: the sweeps of a Session


@pytest.fixture
def session() -> Iterator[Session]:
    with Session("lenet300", "fashion_mnist", history=":memory:") as opened:
        opened.measure()
        yield opened


def test_a_finished_sweep_stays_and_lets_the_session_foresee_recipes(session: Session) -> None:
    past = session.measure("- prune: {ratio: 0.4}").accuracy
    studies = studies_of(session)
    over = threading.Event()
    leave = studies.subscribe(lambda present: None if present.running else over.set())
    found = studies.start(session, "prune", 0.01).result()
    assert over.wait(10)
    leave()
    assert studies.progress is not None
    assert studies.progress.state == "done"
    assert studies_of(session).found["prune"].n.tolist() == found.n.tolist()
    snapshot = session.measure("- prune: {ratio: 0.6}")
    assert snapshot.predicted is not None
    assert snapshot.accuracy is not None
    assert snapshot.predicted.low <= snapshot.accuracy.value <= snapshot.predicted.high
    assert snapshot.predicted.value == pytest.approx(snapshot.accuracy.value, abs=0.05)
    surrogate = session._engine.surrogate
    assert isinstance(surrogate, AccuracySurrogate)
    assert past is not None
    end = time.monotonic() + 10
    while len(surrogate.errors) < 2 and time.monotonic() < end:  # listeners are told after who waits for the Snapshot
        time.sleep(0.01)
    assert len(surrogate.errors) == 2  # the one in the history, and the one since


def test_a_second_sweep_ends_the_first_and_each_techniques_findings_stay(session: Session) -> None:
    studies = studies_of(session)
    first = studies.start(session, "prune")
    second = studies.start(session, "quantize", 0.02)
    assert first.wait(10)
    assert first.progress.state == "cancelled"
    second.result()
    assert studies.technique == "quantize"
    assert "quantize" in studies.found
