"""A sweep's exact cells are plain measurements, its early ones are honest, and it steps aside for the person."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.analyze.report import render_sensitivity, sensitivity_report
from workbench.analyze.sensitivity import Sensitivity, measure_sensitivity
from workbench.analyze.sweep import RELATIVE, SensitivityJob
from workbench.errors import WorkbenchError
from workbench.jobs import Progress
from workbench.models.zoo.resnet import ResNet20
from workbench.run.onnx_graph import ExportError
from workbench.session import Session


def pictures(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 28, 28, generator=chance), torch.randint(0, 10, (count,), generator=chance)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session("lenet300", "fashion_mnist", history=":memory:") as opened:
        opened.measure()
        yield opened


@pytest.fixture(scope="module")
def residual() -> Iterator[Session]:
    torch.manual_seed(0)
    with Session(ResNet20(width=8), wb.load_dataset(pictures(300)), history=":memory:") as opened:
        opened.measure()
        yield opened


def assert_cells_are_measurements(session: Session, found: Sensitivity) -> None:
    assert found.exact
    for layer in found.layers:
        for level in found.levels:
            accuracy = session.measure(found.question.recipe(layer, level)).accuracy
            assert found.estimate(layer, level) == accuracy, (layer, level)
    session.measure("[]")


def test_exact_cells_are_what_the_session_measures(session: Session) -> None:
    for technique, values in (("prune", [0.5, 0.9]), ("quantize", [4, 2])):
        assert_cells_are_measurements(session, measure_sensitivity(session, technique, values=values).result())


def test_cells_of_a_residual_network_are_what_the_session_measures(residual: Session) -> None:
    layers = ["conv1", "stage1.0.conv2", "stage2.0.*", "fc"]
    assert_cells_are_measurements(residual, measure_sensitivity(residual, values=[0.8], layers=layers).result())


def test_cells_with_removed_channels_are_what_the_session_measures(residual: Session) -> None:
    recipe = wb.Recipe.parse("- prune: {granularity: filter, ratio: 0.1, multiple: 1}")
    found = measure_sensitivity(residual, values=[0.5], layers=["conv1", "stage2.1.conv1"], recipe=recipe).result()
    assert found.question.settings["granularity"] == "filter"
    assert_cells_are_measurements(residual, found)


def test_a_layer_that_can_lose_no_filter_alone_is_told_from_one_that_bears_the_loss(residual: Session) -> None:
    recipe = wb.Recipe.parse("- prune: {granularity: filter, ratio: 0.1}")
    layers = ["stage2.1.conv1", "stage2.1.conv2", "fc"]
    found = measure_sensitivity(residual, values=[0.5], layers=layers, recipe=recipe, tolerance=0.05).result()
    assert found.untouched.tolist() == [[False], [True], [True]]
    first, *others = render_sensitivity(sensitivity_report(residual, found)).splitlines()[3:6]
    assert re.search(r"\d\.\d\d", first)
    assert all("–" in line for line in others)


def test_a_model_that_does_not_export_is_swept_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ExportError("This model cannot be written as ONNX.")

    monkeypatch.setattr("workbench.evaluation.export_graph", refuse)
    with Session("lenet300", wb.load_dataset(pictures(200)), history=":memory:") as session:
        session.measure()
        assert session.runtime == "torch"
        assert_cells_are_measurements(session, measure_sensitivity(session, values=[0.7]).result())


def test_the_whole_map_is_there_after_the_first_images_and_its_intervals_hold(session: Session) -> None:
    maps: list[Sensitivity] = []
    job = SensitivityJob(session, measure_sensitivity(session, values=[0.5, 0.9]).question)
    job.subscribe(lambda _: maps.append(job.latest) if job.latest else None)
    exact = job.result()
    first = next(found for found in maps if found.known)
    assert first.n.max() == 64
    assert (first.low < first.high).all()
    assert (np.diff([found.n.sum() for found in maps]) >= 0).all()
    early = [found for found in maps if found.known and not found.exact]
    held = [(found.low <= exact.value) & (exact.value <= found.high) for found in early]
    assert np.mean(held) > 0.9


def test_a_level_that_leaves_a_layer_as_it_is_has_the_dense_models_accuracy(session: Session) -> None:
    found = measure_sensitivity(session, values=[0.0, 0.9], layers=["fc3"]).result()
    assert found.lost[0, 0] == 0
    assert found.n[0, 0] == found.total


def test_with_a_tolerance_a_cell_stops_once_it_is_known_well_enough(session: Session) -> None:
    found = measure_sensitivity(session, "quantize", values=[8, 1], tolerance=0.01).result()
    half = (found.high - found.low) / 2
    assert (half <= np.maximum(0.01, RELATIVE * found.lost)).all()
    assert found.n.max() < found.total
    assert found.n.min() >= 64


def test_cancelled_it_ends_at_once_and_what_is_there_stays_valid(session: Session) -> None:
    known, seen = threading.Event(), []
    job = measure_sensitivity(session)

    def look(progress: Progress) -> None:
        seen.append(progress)
        if job.latest and job.latest.known:
            job.cancel()
            known.set()

    job.subscribe(look)
    assert known.wait(60)
    assert job.wait(2)
    assert job.progress.state == "cancelled"
    assert job.latest is not None
    assert job.latest.known
    assert not job.latest.exact
    assert all(0 <= progress.share <= 1 for progress in seen)
    with pytest.raises(WorkbenchError, match="cancelled"):
        job.result()


def test_it_stands_still_while_the_persons_recipe_is_measured(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, free = threading.Event(), threading.Event()

    def wait(cancelled: object) -> None:
        asked.set()
        assert free.wait(30)

    monkeypatch.setattr(session, "give_way", wait)
    job = measure_sensitivity(session, values=[0.5], layers=["fc3"], tolerance=0.05)
    assert asked.wait(10)
    assert job.latest is None
    assert job.running
    free.set()
    assert job.result().known


def test_closing_the_session_ends_it() -> None:
    session = Session("lenet300", "fashion_mnist", history=":memory:")
    session.measure()
    job = measure_sensitivity(session)
    session.close()
    assert job.wait(10)
    assert job.progress.state == "cancelled"


def test_the_persons_other_settings_are_used_and_what_acts_beside_the_dial_is_not(session: Session) -> None:
    recipe = wb.Recipe.parse(
        "- prune: {threshold: 0.02}\n- quantize: {bits: 8, scheme: symmetric, per: tensor, activations: {bits: 8}}"
    )
    for technique, settings in (("quantize", {"scheme": "symmetric", "per": "tensor"}), ("prune", {"scope": "layer"})):
        job = measure_sensitivity(session, technique, recipe=recipe)
        job.cancel()
        assert dict(job.question.settings) == settings
        assert job.wait(10)


def test_another_setting_than_the_dial_can_be_varied(session: Session) -> None:
    found = measure_sensitivity(
        session, "prune", setting="threshold", values=[0.001, 10.0], layers=["fc2"], tolerance=0.05
    ).result()
    assert found.question.setting == "threshold"
    assert abs(found.lost[0, 0]) < 0.05 < found.lost[0, 1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"technique": "distil"}, "no technique 'distil'"),
        ({"technique": "recalibrate"}, "no setting that stands for how hard"),
        ({"values": [0.5, 1.2]}, "ratio is 1.2"),
        ({"values": []}, "At least one value"),
        ({"setting": "colour"}, "'prune' has no setting 'colour'; there are criterion"),
        ({"setting": "norm"}, "Which values of 'norm'"),
        ({"setting": "colour", "values": ["red"]}, "colour"),
        ({"layers": ["fc9"]}, "'fc9' matches no layer"),
        ({"layers": []}, "At least one layer"),
        ({"tolerance": 0.0}, "should be above 0"),
    ],
)
def test_bad_input_is_one_sentence_at_once(session: Session, options: dict[str, object], words: str) -> None:
    with pytest.raises(WorkbenchError, match=words):
        measure_sensitivity(session, **options)  # type: ignore[arg-type]


def test_a_sweep_started_again_refines_the_one_before(session: Session) -> None:
    coarse = measure_sensitivity(session, values=[0.5], layers=["fc3"], tolerance=0.05).result()
    exact = measure_sensitivity(session, values=[0.5], layers=["fc3"]).result()
    assert coarse.refining(exact).exact
    assert exact.refining(coarse).exact
    other = replace(coarse, question=replace(coarse.question, levels=(0.6,)))
    assert not other.refining(exact).exact


def test_its_json_has_every_layers_levels_and_estimates(session: Session) -> None:
    found = measure_sensitivity(session, "quantize", values=[4, 2], layers=["fc3"], tolerance=0.05).result()
    data = found.to_json()
    assert data["setting"] == "bits"
    (row,) = data["layers"]
    assert row["name"] == "fc3"
    assert row["setting"] == [4, 2]
    assert [set(estimate) for estimate in row["accuracy"]] == [{"value", "low", "high", "n", "kind", "split"}] * 2


def test_the_other_figures_of_the_same_runs_are_those_of_a_plain_evaluation(session: Session) -> None:
    found = measure_sensitivity(session, "quantize", values=[2], layers=["fc2"]).result()
    cell = session.measure(found.question.recipe("fc2", 2))
    assert cell.loss is not None
    assert cell.agreement is not None
    assert found.measured["loss"].value[0, 0] == pytest.approx(cell.loss.value, abs=1e-6)
    assert found.measured["agreement"].value[0, 0] == cell.agreement.value
    split, normalize = session.split, session.normalization
    with torch.inference_mode():
        images = normalize(split.images)
        dense, changed = session.model.module(images), session.compressed.module(images)
    session.measure("[]")
    kl = torch.nn.functional.kl_div(
        changed.log_softmax(1), dense.log_softmax(1), log_target=True, reduction="batchmean"
    )
    assert found.measured["kl"].value[0, 0] == pytest.approx(float(kl), rel=1e-4)
    error = float((changed - dense).square().mean())
    assert found.measured["logit_mse"].value[0, 0] == pytest.approx(error, rel=1e-4)
    decibel = 10 * np.log10(float(dense.square().mean()) / error)
    assert found.harm("sqnr").value[0, 0] == pytest.approx(-decibel, abs=1e-3)


def test_intervals_of_the_other_figures_hold_the_exact_ones(session: Session) -> None:
    early = measure_sensitivity(session, "quantize", values=[4, 2], tolerance=0.02).result()
    exact = measure_sensitivity(session, "quantize", values=[4, 2]).result()
    for name, (_, low, high) in early.measured.items():
        value = exact.measured[name].value
        assert ((low <= value) & (value <= high)).all(), name
    for metric in ("drop", "disagreement", "loss", "kl", "logit_mse", "sqnr"):
        value, low, high = early.harm(metric)
        assert ((low <= value) & (value <= high)).all(), metric


def test_all_but_this_layer_is_what_the_session_measures(session: Session) -> None:
    found = measure_sensitivity(session, "quantize", values=[2], mode="others").result()
    assert found.question.recipe("fc1", 2).to_data()[0]["quantize"]["layers"] == ["fc2", "fc3"]
    assert_cells_are_measurements(session, found)


@pytest.mark.parametrize(("technique", "level"), [("factorize", 0.3), ("share", 2)])
def test_factorizing_and_sharing_are_swept_too(session: Session, technique: str, level: float) -> None:
    found = measure_sensitivity(session, technique, values=[level], layers=["fc1", "fc2"]).result()
    for layer in found.layers:
        accuracy = session.measure(found.question.recipe(layer, level)).accuracy
        ours = found.estimate(layer, level)
        assert ours is not None
        assert accuracy is not None
        assert ours.value == pytest.approx(accuracy.value, abs=2e-4)  # one product instead of two may round otherwise
    session.measure("[]")
    assert (found.lost > 0).any()
