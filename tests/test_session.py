"""A Session answers at once, tells the truth in the end, and the newest recipe always wins."""

from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import workbench as wb
from workbench.history import History
from workbench.measure.latency.measured import open_session
from workbench.models.tracing import Tracing
from workbench.run.onnx_export import export_graph
from workbench.session import Session
from workbench.snapshot import Snapshot
from workbench.undo import UndoPath

PRUNE = "- prune: {{ratio: {}}}"


@pytest.fixture(scope="module")
def data() -> wb.Dataset:
    return wb.load_dataset("fashion_mnist")


@pytest.fixture
def session(data: wb.Dataset) -> Iterator[Session]:
    with Session("lenet300", data, history=":memory:") as opened:
        yield opened


def by_hand(module: nn.Module, data: wb.Dataset) -> float:
    with torch.inference_mode():
        answers = module(data.normalization(data["test"].images)).argmax(1)
    return float((answers == data["test"].labels).float().mean())


def test_figures_end_exact_and_equal_eager_torch(session: Session, data: wb.Dataset) -> None:
    for text in ("[]", "- prune: {ratio: 0.8}\n- quantize: {bits: 3}", "- prune: {granularity: filter, ratio: 0.5}"):
        snapshot = session.measure(text)
        assert snapshot.accuracy.kind == "exact"
        assert snapshot.accuracy.n == 10_000
        assert snapshot.accuracy.split == "test"
        assert snapshot.accuracy.value == pytest.approx(by_hand(session.compressed.module, data), abs=1e-4)
        assert snapshot.size.bytes == session.compressed.nbytes


def test_classes_in_the_order_of_their_names_are_judged_as_the_model_numbers_them(data: wb.Dataset) -> None:
    by_name = tuple(sorted(data.classes))
    places = torch.tensor([by_name.index(name) for name in data.classes])
    splits = {key: replace(split, labels=places[split.labels]) for key, split in data.splits.items()}
    with Session("lenet300", replace(data, splits=splits, classes=by_name), history=":memory:") as opened:
        assert opened.split.hash == data["test"].hash
        assert opened.measure().accuracy.value == pytest.approx(by_hand(opened.model.module, data), abs=1e-4)
        assert any("numbered in the model's order" in note for note in opened.notes)


def test_snapshots_go_from_size_to_sampled_to_exact(session: Session) -> None:
    session.measure()
    session.apply("- quantize: {bits: 4}")
    trail = list(session.snapshots())
    assert trail[0].size is not None
    assert trail[0].accuracy is None
    sampled = [item.accuracy for item in trail if item.accuracy and item.accuracy.kind == "sampled"]
    assert sampled[0].n >= 64
    assert [item.n for item in sampled] == sorted(item.n for item in sampled)
    assert trail[-1].settled
    assert trail[-1].accuracy.kind == "exact"
    assert sum(item.settled for item in trail) == 1


def test_apply_returns_at_once(session: Session) -> None:
    session.measure()
    start = time.perf_counter()
    for index in range(100):
        session.apply(PRUNE.format(index / 200))
    assert (time.perf_counter() - start) / 100 < 0.01


def test_newest_recipe_wins_and_nothing_older_follows(session: Session) -> None:
    session.measure()
    seen: list[Snapshot] = []
    session.subscribe(seen.append)
    wait = threading.Event()
    for index in range(200):
        session.apply(PRUNE.format(index / 250))
        wait.wait(0.002)
    last = session.measure()
    assert last.recipe == wb.Recipe.parse(PRUNE.format(199 / 250))
    generations = [snapshot.generation for snapshot in seen]
    assert generations == sorted(generations)
    assert seen[-1].recipe == last.recipe
    assert seen[-1].settled


def test_work_is_given_up_within_fifty_milliseconds(session: Session) -> None:
    """From setting a new recipe to its size, while a long evaluation runs: what it had to give up included."""
    session.measure()
    times = []
    for index in range(20):
        started = threading.Event()
        end = session.subscribe(lambda item, started=started: started.set() if item.accuracy else None)
        session.apply(PRUNE.format(0.3 + index / 100))
        assert started.wait(10)
        end()
        begin = time.perf_counter()
        session.apply(PRUNE.format(0.6 + index / 100))
        next(session.snapshots())
        times.append(time.perf_counter() - begin)
    assert np.median(times) < 0.05


def test_a_size_does_not_wait_for_a_runtime_that_is_loading(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for anything else that can't be given up at once, such as a kernel that is being timed."""
    session.measure()
    loading, free = threading.Event(), threading.Event()
    load = session._engine._evaluator.runner

    def slowly(compressed: wb.CompressedModel, check: Callable[[], None]) -> object:
        loading.set()
        assert free.wait(60)
        return load(compressed, check)

    monkeypatch.setattr(session._engine._evaluator, "runner", slowly)
    session.apply(PRUNE.format(0.31))
    assert loading.wait(10)
    sized = threading.Event()
    end = session.subscribe(lambda item: sized.set() if item.recipe == session.recipe and item.size else None)
    session.apply(PRUNE.format(0.32))
    assert sized.wait(10)
    assert not free.is_set()
    free.set()
    end()
    assert session.measure().accuracy.kind == "exact"


def test_sizes_do_not_wait_for_the_graph_and_latency_follows_with_it(
    data: wb.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = threading.Event()

    def write(*given: object) -> object:
        written.wait(60)
        return export_graph(*given)  # type: ignore[arg-type]

    monkeypatch.setattr("workbench.evaluation.export_graph", write)
    monkeypatch.setattr("workbench.engine.DEEP", 1)  # any model is
    with Session("lenet300", data, history=":memory:") as session:
        for text in ("[]", PRUNE.format(0.5)):
            session.apply(text)
            sketch, first = itertools.islice(session.snapshots(), 2)
            assert sketch.is_sketch
            assert sketch.size == replace(first.size, runtime_bytes=None)
            assert first.size.bytes == session.compressed.nbytes
            assert len(first.layers) == len(session.layers)
            assert first.latency is first.size.runtime_bytes is first.baseline.latency is None
            assert not session.is_written
        written.set()
        settled = session.measure()
        assert session.is_written
        assert session.key == replace(session.place, runtime="onnxruntime")
        for size, latency in ((settled.size, settled.latency), (settled.baseline.size, settled.baseline.latency)):
            assert size.runtime_bytes > 0
            assert latency.ms > 0
        assert settled.runtime == "onnxruntime"


def test_a_deep_models_accuracy_waits_until_the_hand_rests_unless_it_is_known(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.measure()
    monkeypatch.setattr("workbench.engine.DEEP", 1)  # any model is
    monkeypatch.setattr("workbench.workers.REST", 0.01)
    monkeypatch.setattr("workbench.workers.HEAD_START", 3600.0)
    assert session.measure(PRUNE.format(0.31)).settled
    monkeypatch.setattr("workbench.workers.REST", 3600.0)
    monkeypatch.setattr("workbench.workers.HEAD_START", 0.01)
    assert session.measure("[]").settled
    assert session.measure(PRUNE.format(0.31)).settled


def test_a_deep_model_is_traced_in_the_first_pause_though_nothing_has_settled(
    data: wb.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced, free = threading.Event(), threading.Event()
    trace = Tracing.beforehand

    def beforehand(tracing: Tracing, quiet: Callable[[], bool]) -> None:
        trace(tracing, quiet)
        traced.set()

    def write(*given: object) -> object:  # as long as this waits, no figure of accuracy comes
        free.wait(60)
        return export_graph(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(Tracing, "beforehand", beforehand)
    monkeypatch.setattr("workbench.evaluation.export_graph", write)
    monkeypatch.setattr("workbench.workers.OPENING", 0.01)
    monkeypatch.setattr("workbench.engine.DEEP", 1)  # any model is
    with Session("lenet300", data, history=":memory:") as session:
        assert traced.wait(20)
        assert not session.snapshot.settled
        free.set()


def test_listeners_hear_of_snapshots_in_the_order_published(session: Session) -> None:
    """A listener that is slow while the other worker publishes must not see the older after the newer."""
    session.measure()
    seen: list[Snapshot] = []
    slow, free = threading.Event(), threading.Event()

    def listen(item: Snapshot) -> None:
        if item.accuracy and not slow.is_set():
            slow.set()
            assert free.wait(60)
        seen.append(item)

    session.subscribe(listen)
    session.apply(PRUNE.format(0.33))
    assert slow.wait(10)
    session.apply(PRUNE.format(0.34))
    newest = next(session.snapshots())
    free.set()
    last = session.measure()
    generations = [item.generation for item in seen]
    assert newest.generation == last.generation == generations[-1]
    assert generations == sorted(generations)


def test_going_back_is_free(session: Session) -> None:
    first = session.measure(PRUNE.format(0.5))
    session.measure(PRUNE.format(0.6))
    session.apply(PRUNE.format(0.5))
    trail = list(session.snapshots())
    assert [item.accuracy.kind for item in trail if item.accuracy] == ["exact"]
    assert trail[-1].accuracy == first.accuracy


def test_undo_and_redo_walk_the_measured_settings(session: Session) -> None:
    recipes = [session.measure(text).recipe for text in ("[]", PRUNE.format(0.5), PRUNE.format(0.7))]
    assert session.can_undo
    assert not session.can_redo
    assert session.undo() == recipes[1]
    session.measure()
    assert session.undo() == recipes[0]
    session.measure()
    assert not session.can_undo
    assert session.redo() == recipes[1]
    session.measure("- quantize: {bits: 8}")
    assert not session.can_redo
    assert session.undo() == recipes[1]


def test_undo_leaves_an_unsettled_setting_for_the_last_settled_one() -> None:
    path = UndoPath()
    one, two = (wb.Recipe.parse(PRUNE.format(ratio)) for ratio in (0.1, 0.2))
    path.visit(one)
    assert path.before(two) == one
    assert path.before(one) is None
    assert path.after(two) is None


def test_measured_settings_are_kept_with_parent_and_predictions(data: wb.Dataset, tmp_path: Path) -> None:
    path = str(tmp_path / "history.sqlite")
    with Session("lenet300", data, history=path) as session:
        base, pruned = session.measure(), session.measure(PRUNE.format(0.9))
        key = session.key
    history = History(path)
    first, second = history.records(key)
    assert (first.recipe_hash, second.recipe_hash) == (base.recipe_hash, pruned.recipe_hash)
    assert second.parent == first.id
    correct = history.predictions(second.id) == data["test"].labels.numpy()
    assert correct.mean() == pytest.approx(pruned.accuracy.value)
    history.close()


def test_the_dense_models_layers_are_kept_whatever_was_measured_first(session: Session) -> None:
    pruned = session.measure(PRUNE.format(0.9))
    dense, first = (session.history.layers(record.id) for record in session.records())
    assert {(layer["sparsity"], layer["bits"]) for layer in dense} == {(0.0, 32.0)}
    assert [layer["bytes"] for layer in first] == [layer.bytes for layer in pruned.layers]


def test_a_setting_measured_before_is_recalled_with_its_flips(data: wb.Dataset, tmp_path: Path) -> None:
    path, recipe = str(tmp_path / "history.sqlite"), PRUNE.format(0.9)
    with Session("lenet300", data, history=path) as session:
        session.measure()
        first = session.measure(recipe)
    with Session("lenet300", data, history=path) as session:
        session.measure()
        session.apply(recipe)
        trail = list(session.snapshots())
        recalled = trail[-1]
        records = session.records()
    assert [item.accuracy.kind for item in trail if item.accuracy] == ["exact"]
    assert (recalled.accuracy, recalled.agreement, recalled.loss) == (first.accuracy, first.agreement, first.loss)
    assert len(first.flips) > 10
    assert [(flip.image, flip.before, flip.after) for flip in recalled.flips] == [
        (flip.image, flip.before, flip.after) for flip in first.flips
    ]
    for before, after in zip(first.flips, recalled.flips, strict=True):
        assert after.after_confidence == pytest.approx(before.after_confidence, abs=1e-4)
    assert len(records) == 2


def test_records_can_be_asked_for_from_one_on(session: Session) -> None:
    session.measure()
    last = session.records()[-1].id
    session.measure(PRUNE.format(0.5))
    assert [record.recipe_hash for record in session.records(after=last)] == [session.recipe.hash]
    assert session.records(after=session.records()[-1].id) == []


def test_flips_are_those_the_two_models_really_answer_differently(session: Session, data: wb.Dataset) -> None:
    snapshot = session.measure(PRUNE.format(0.9))
    images = data["test"].images
    assert snapshot.flips
    for flip in snapshot.flips[:5]:
        dense, compressed = session.answer(images[flip.image])
        assert (dense.argmax(), compressed.argmax()) == (flip.before, flip.after)
        assert dense.max() == pytest.approx(flip.before_confidence, abs=1e-3)
        assert compressed.max() == pytest.approx(flip.after_confidence, abs=1e-3)
        assert flip.label == data["test"].labels[flip.image]


def test_a_bad_recipe_reaches_the_listener_as_a_sentence(session: Session) -> None:
    session.measure()
    seen: list[Snapshot] = []
    session.subscribe(seen.append)
    with pytest.raises(wb.WorkbenchError, match="'head' matches no layer"):
        session.measure("- prune: {layers: [head]}")
    assert seen[-1].settled
    assert "matches no layer" in seen[-1].error
    assert session.measure(PRUNE.format(0.5)).error is None


def test_a_recipe_may_be_plain_data_and_what_is_none_is_refused_before_it_is_set(session: Session) -> None:
    assert session.measure([{"prune": {"ratio": 0.9}}]).recipe_hash == session.measure(PRUNE.format(0.9)).recipe_hash
    with pytest.raises(wb.WorkbenchError, match="a file's name: give what the file holds"):
        session.apply(Path("recipe.yaml"))  # type: ignore[arg-type]
    assert session.recipe == wb.Recipe.parse(PRUNE.format(0.9))


def test_a_failing_listener_does_not_silence_the_others(session: Session) -> None:
    seen: list[Snapshot] = []

    def broken(snapshot: Snapshot) -> None:
        raise RuntimeError("view gone")

    session.subscribe(broken)
    session.subscribe(seen.append)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        session.measure("- quantize: {bits: 5}")
        session.close()
    assert any("view gone" in str(warning.message) for warning in caught)
    assert seen[-1].settled


def test_closing_leaves_no_thread_and_wakes_waiters(data: wb.Dataset) -> None:
    before = threading.active_count()
    session = Session("lenet300", data, history=":memory:")
    session.apply(PRUNE.format(0.4))
    waiter = threading.Thread(target=lambda: list(session.snapshots()))
    waiter.start()
    session.close()
    session.close()
    waiter.join(10)
    assert not waiter.is_alive()
    assert threading.active_count() == before
    with pytest.raises(wb.WorkbenchError, match="closed"):
        session.apply("[]")


def test_a_model_that_does_not_export_runs_in_torch(data: wb.Dataset) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(28, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(torch.tensor(x.mean((1, 2)).tolist()))

    torch.manual_seed(0)
    module = Odd()
    with Session(module, data, history=":memory:") as session:
        snapshot = session.measure(PRUNE.format(0.5))
        assert snapshot.runtime == "torch"
        assert snapshot.latency is None
        assert snapshot.size.runtime_bytes is None
        assert snapshot.accuracy.value == pytest.approx(by_hand(session.compressed.module, data), abs=1e-4)
        with pytest.raises(wb.WorkbenchError, match="cannot be written as ONNX"):
            session.measure_latency()


def test_a_full_disk_for_the_history_does_not_stop_the_figures(data: wb.Dataset) -> None:
    class Full(History):
        def add(self, *arguments: object) -> int:
            raise OSError(28, "No space left on device")

    with Session("lenet300", data, history=Full(":memory:")) as session:
        snapshot = session.measure(PRUNE.format(0.5))
        assert snapshot.accuracy.kind == "exact"
        assert any("not being kept" in note for note in session.notes)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(100, 10)), "28"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 7)), "7"),
        (lambda: nn.Sequential(nn.Flatten(), nn.ReLU()), "no layer"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused(build: object, words: str, data: wb.Dataset) -> None:
    with pytest.raises(wb.WorkbenchError, match=words):
        Session(build(), data, history=":memory:")  # type: ignore[operator]


def test_what_fails_in_the_pauses_is_a_note_and_the_figures_stand(
    data: wb.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise wb.WorkbenchError("There is no room.")

    monkeypatch.setattr("workbench.engine.Engine.prepare", fail)
    with Session("lenet300", data, history=":memory:") as session:
        told = threading.Event()
        session.subscribe(lambda snapshot: told.set() if snapshot.notes else None)
        settled = session.measure()
        assert told.wait(20)
        assert session.snapshot.notes[-1].endswith("prepared for later moves: There is no room.")
        assert session.snapshot.error is None
        assert session.snapshot.accuracy == settled.accuracy


def test_measuring_latency_says_what_it_measured(session: Session) -> None:
    session.measure("- prune: {ratio: 0.5}")
    latency = session.measure_latency()
    assert latency.kind == "measured"
    assert 0 < latency.low <= latency.ms <= latency.high
    assert latency.batch == 1
    assert session.snapshot.measured_latency == latency


def test_latency_is_measured_as_it_is_predicted_with_weights_unpacked_once(
    session: Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    graphs = []

    def opened(model: onnx.ModelProto, threads: int = 1, **options: Any) -> Any:
        path = tmp_path / f"{len(graphs)}.onnx"
        found = open_session(model, threads, optimized_to=str(path), **options)
        graphs.append({node.op_type for node in onnx.load(path).graph.node})
        return found

    monkeypatch.setattr("workbench.measure.latency.measured.open_session", opened)
    session.measure("- quantize: {bits: 4}")
    session.measure_latency()
    four, dense = graphs[0], graphs[1]
    assert "DequantizeLinear" not in four
    assert {op for op in four if "Gemm" in op} == {op for op in dense if "Gemm" in op}


def test_measured_latency_of_int8_runs_on_int8_kernels(data: wb.Dataset) -> None:
    with Session("lenet5", data, history=":memory:") as session:
        session.measure("- quantize: {bits: 8, scheme: symmetric, activations: {bits: 8}}")
        file = onnx.load_from_string(session._engine.latencies.file(session.recipe))
        assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in file.graph.node}
        assert file.ByteSize() < 0.35 * session.snapshot.size.dense_fp32_bytes


def test_a_device_chosen_while_images_run_is_that_of_every_later_snapshot() -> None:
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        here = session.measure(wb.Recipe())
        seen: list[Snapshot] = []
        session.apply(wb.Recipe.parse("- prune: {ratio: 0.5}"))
        snapshots = session.snapshots()
        next(snapshots)
        session.use_device("raspberry-pi-4")
        unsubscribe = session.subscribe(seen.append)
        *_, last = snapshots
        unsubscribe()
        assert here.latency is not None
        for snapshot in [*seen, last]:
            assert snapshot.latency is not None
            assert snapshot.latency.device.startswith("Raspberry Pi 4")
            assert snapshot.baseline.latency is not None
            assert snapshot.baseline.latency.device == snapshot.latency.device
        session.use_device("this-machine")
        assert session.snapshot.latency is not None
        assert session.snapshot.latency.device == here.latency.device


def test_latency_measured_while_images_run_stays_and_its_ratio_is_of_one_scale() -> None:
    with Session("lenet5", "fashion_mnist", history=":memory:") as session:
        session.measure(wb.Recipe())
        session.apply(wb.Recipe.parse("- prune: {granularity: filter, ratio: 0.5}"))
        snapshots = session.snapshots()
        next(snapshots)
        latency = session.measure_latency()
        *_, last = snapshots
        predicted = session._engine.refresh_latency(last)
        assert last.measured_latency == latency
        assert (last.latency, last.baseline.latency) == (predicted.latency, predicted.baseline.latency)


def test_a_device_can_be_chosen_while_the_recipe_cannot_be_carried_out(session: Session) -> None:
    session.measure(wb.Recipe())
    with pytest.raises(wb.WorkbenchError, match="matches no layer"):
        session.measure("- prune: {layers: [head]}")
    session.use_device("raspberry-pi-4")
    assert "matches no layer" in session.snapshot.error
    assert session.snapshot.baseline.latency.device.startswith("Raspberry Pi 4")
    assert session.measure(PRUNE.format(0.5)).latency.device.startswith("Raspberry Pi 4")


def test_no_baseline_runs_while_latency_is_measured(data: wb.Dataset) -> None:
    with Session("lenet5", data, history=":memory:") as session:
        with session._engine.latencies.timing:
            started = session.snapshot
            time.sleep(0.5)
            assert session.snapshot.baseline.accuracy is None
            seen = sum(map(len, session._engine._partial))
            time.sleep(0.3)
            assert sum(map(len, session._engine._partial)) == seen
        assert started.baseline.accuracy is None
        assert session.measure(wb.Recipe()).accuracy.kind == "exact"


def test_figures_do_not_wait_for_the_channels_that_are_traced_in_the_pauses() -> None:
    with Session("shufflenetv2", "fashion_mnist", history=":memory:") as session:
        generation = session.apply("- quantize: {bits: 6}")
        tracing = session._engine.subject.tracing
        assert next(iter(session.snapshots())).generation == generation
        session.measure(wb.Recipe())
        while not tracing._work.locked():
            time.sleep(0.01)
        session.apply("- quantize: {bits: 7}")
        assert any(snapshot.accuracy is not None for snapshot in session.snapshots())
        assert tracing._graph is None
        started = time.perf_counter()
        session.close()
        assert time.perf_counter() - started < 2
        assert tracing._graph is None


def taught_by(data: wb.Dataset, places: slice) -> wb.Dataset:
    """The same test images, and others to calibrate on."""
    calibration = replace(data["calibration"], images=data["calibration"].images[places],
                          labels=data["calibration"].labels[places])  # fmt: skip
    return replace(data, name=f"{data.name}{places.start}", splits={**data.splits, "calibration": calibration})


def test_what_was_calibrated_on_other_images_is_not_taken_for_the_same(data: wb.Dataset, tmp_path: Path) -> None:
    path, calibrated = str(tmp_path / "history.sqlite"), "- quantize: {bits: 3, rounding: gptq}"
    few, more = taught_by(data, slice(0, 8)), taught_by(data, slice(100, 200))
    with Session("lenet300", few, history=path) as session:
        session.measure(PRUNE.format(0.9))
        first = session.measure(calibrated)
    with Session("lenet300", more, history=path) as session:
        assert [record.recipe_hash for record in session.records()] == [
            wb.Recipe().hash, wb.Recipe.parse(PRUNE.format(0.9)).hash,
        ]  # fmt: skip
        second = session.measure(calibrated)
        assert second.accuracy.value != first.accuracy.value
        assert second.accuracy.value == pytest.approx(by_hand(session.compressed.module, more), abs=1e-4)
        assert len(session.records()) == 3, "what learns from no image is one setting, whatever there is to learn from"
    with Session("lenet300", few, history=path) as session:
        session.measure()
        session.apply(calibrated)
        trail = list(session.snapshots())
        assert [item.accuracy.kind for item in trail if item.accuracy] == ["exact"], "recalled"
        assert trail[-1].accuracy == first.accuracy
        assert session.records()[-1].recipe_hash == first.recipe_hash


def test_what_was_measured_of_the_bundled_images_stays_valid() -> None:
    assert wb.load_dataset("fashion_mnist").lessons == wb.load_dataset("digits").lessons == ""
