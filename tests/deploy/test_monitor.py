"""The monitor: quiet while nothing changes, quick when something does, in memory that does not grow."""

from __future__ import annotations

import io
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from torch import Tensor

from tests.deploy.conftest import convolutions
from workbench.cli import main
from workbench.data.dataset import Normalization
from workbench.data.load import load_dataset
from workbench.deploy.formats import find_format
from workbench.deploy.monitor.drift import Distributions, Drift, compare_classes
from workbench.deploy.monitor.durations import Durations
from workbench.deploy.monitor.reference import MonitorError, Reference
from workbench.deploy.monitor.rehearsal import Rehearsal
from workbench.deploy.monitor.server import MonitorServer
from workbench.deploy.monitor.shadow import Shadow
from workbench.deploy.monitor.watch import WINDOW, Monitor
from workbench.deploy.normalizing import noted
from workbench.deploy.writing import prepare
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.run.runner import OnnxRunner
from workbench.session import Session

SHAPE = (1, 8, 8)


class Sums:
    """Three logits from the sums of an image's parts: quick, and sensitive to all that is watched."""

    runtime = "numpy"

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        values = images.numpy().reshape(len(images), -1)
        return np.stack([values[:, :20].sum(1), values[:, 20:40].sum(1), values[:, 40:].sum(1)], axis=1)

    def stop(self) -> None: ...


class Broken(Sums):
    """Fails on every image."""

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        raise RuntimeError("out of memory")


def draw(count: int, seed: int) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def drift_of(reference: NDArray[np.float64], window: NDArray[np.float64]) -> Drift:
    return Distributions({"x": reference}).compare({"x": window})[0]


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.of(Sums(), draw(4000, 0))


@given(st.integers(5, 60), st.integers(5, 60), st.integers(0, 2**32 - 1), st.floats(0, 2))
def test_the_distance_is_scipys(n: int, m: int, seed: int, shift: float) -> None:
    random = np.random.default_rng(seed)
    first, second = np.sort(random.normal(size=n).round(1)), (random.normal(size=m) + shift).round(1)
    assert drift_of(first, second).distance == pytest.approx(ks_2samp(first, second, method="asymp").statistic)


def test_p_values_are_uniform_where_nothing_changed() -> None:
    random = np.random.default_rng(0)
    normal = np.sort(random.normal(size=2000))
    p = np.array([drift_of(np.sort(random.normal(size=2000)), random.normal(size=WINDOW)).p for _ in range(400)])
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.035)
    assert drift_of(normal, random.normal(size=WINDOW) + 0.5).p < 1e-9
    shares = np.array([0.5, 0.3, 0.2])
    classes = [
        compare_classes(random.multinomial(4000, shares), random.multinomial(WINDOW, shares)).p for _ in range(400)
    ]
    assert (np.array(classes) < 0.05).mean() == pytest.approx(0.05, abs=0.035)


def test_nothing_alarms_while_nothing_changes(reference: Reference) -> None:
    monitor = Monitor(Sums(), reference)
    for seed in range(40):
        monitor.logits(draw(1000, 100 + seed))
    assert monitor.alarm_count == 0
    assert set(monitor.last) == {"brightness", "contrast", "detail", "confidence", "margin", "class"}


@pytest.mark.parametrize(
    ("change", "feature"),
    [(lambda x: x + 0.2, "brightness"), (lambda x: 1.2 * x, "contrast"), (lambda x: x * float("nan"), "brightness")],
)
def test_a_change_is_found_within_a_thousand_predictions(reference: Reference, change: Any, feature: str) -> None:
    monitor = Monitor(Sums(), reference)
    monitor.logits(draw(WINDOW * 2, 7))
    monitor.logits(change(draw(1000, 8)))
    assert feature in {alarm.drift.feature for alarm in monitor.alarms}
    assert all(alarm.prediction <= 2 * WINDOW + 1000 for alarm in monitor.alarms)
    assert f"{monitor.alarms[0].prediction:,}" in monitor.alarms[0].sentence


def test_one_at_a_time_is_counted_as_in_batches(reference: Reference) -> None:
    images = draw(WINDOW + 37, 3)  # a window is a multiple of the parts in which batches are taken
    together, single = Monitor(Sums(), reference), Monitor(Sums(), reference)
    together.logits(images)
    for image in images.split(1):
        single.logits(image)
    assert together.last == single.last
    assert single.predictions == together.predictions == len(images)
    assert single.classes.tolist() == together.classes.tolist()


def test_a_failing_runtime_is_counted_and_told(reference: Reference) -> None:
    monitor = Monitor(Broken(), reference)
    with pytest.raises(RuntimeError, match="out of memory"):
        monitor.logits(draw(1, 0))
    assert monitor.status()["failures"] == 1
    with pytest.raises(MonitorError, match=r"must be of shape \(1, 8, 8\)"):
        monitor.logits(torch.zeros(1, 1, 9, 9))


@given(st.lists(st.floats(0.01, 1000), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_percentiles_are_close_to_the_exact_ones(times: list[float], percent: int) -> None:
    durations = Durations()
    durations.add(np.array(times))
    exact = np.percentile(times, percent, method="inverted_cdf")
    assert durations.percentile(percent) == pytest.approx(exact, rel=0.05)


def test_a_shadow_tells_how_often_both_agree(reference: Reference) -> None:
    class Other(Sums):
        def logits(self, images: Tensor) -> NDArray[np.float32]:
            return super().logits(-images)

    same, other = Shadow(Sums()), Shadow(Other())
    for shadow in (same, other):
        monitor = Monitor(Sums(), reference, shadow, every=10)
        monitor.logits(draw(400, 1))
        shadow.settle()
        shadow.close()
        assert shadow.compared == 40
    assert same.agreement[0] == 1
    assert same.agreement[1] > 0.9
    assert other.agreement[2] < 0.5
    broken = Shadow(Broken())
    broken.offer(draw(1, 0).numpy(), 0)
    broken.close()
    assert (broken.failed, broken.compared) == (1, 0)


def test_a_reference_comes_back_from_its_file(reference: Reference, tmp_path: Path) -> None:
    reference.save(tmp_path / "normal.json")
    again = Reference.load(tmp_path / "normal.json")
    assert again.shape == reference.shape
    assert again.classes.tolist() == reference.classes.tolist()
    assert np.allclose(again.samples["detail"], reference.samples["detail"], rtol=1e-5)
    (tmp_path / "other.json").write_text('{"format": 99}')
    with pytest.raises(MonitorError, match="of format 99; this version reads 2"):
        Reference.load(tmp_path / "other.json")
    (tmp_path / "none.json").write_text("[]")
    with pytest.raises(MonitorError, match="is no reference"):
        Reference.load(tmp_path / "none.json")
    with pytest.raises(MonitorError, match="500 images at least"):
        Reference.of(Sums(), draw(100, 0))


@pytest.fixture
def server(reference: Reference) -> Iterator[MonitorServer]:
    with MonitorServer(Monitor(Sums(), reference), "sums", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(url: str, body: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body), timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read()


def packed(images: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, images)
    return buffer.getvalue()


def test_predictions_metrics_and_status_are_served(server: MonitorServer) -> None:
    images = draw(WINDOW, 5)
    status, body = ask(f"{server.url}/predict", packed(images.numpy()))
    assert status == 200
    assert json.loads(body)["classes"] == Sums().logits(images).argmax(1).tolist()
    text = ask(f"{server.url}/metrics")[1].decode()
    assert f'workbench_predictions_total{{model="sums"}} {WINDOW:.1f}' in text
    assert 'workbench_psi{feature="confidence",model="sums"}' in text
    assert 'workbench_latency_quantile_seconds{model="sums",quantile="0.99"}' in text
    assert json.loads(ask(f"{server.url}/status")[1])["predictions"] == WINDOW


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{}", "NumPy file"),
        (packed(np.zeros((1, 1, 8, 8), np.float32))[:-3], "NumPy file"),
        (packed(np.zeros((1, 1, 8, 8))), "must be float32"),
        (packed(np.zeros((1, 2), np.float32)), "must be of shape"),
    ],
)
def test_bad_requests_are_refused_with_a_sentence(server: MonitorServer, body: bytes, said: str) -> None:
    status, answer = ask(f"{server.url}/predict", body)
    assert status == 400
    assert said in json.loads(answer)["error"]
    assert ask(f"{server.url}/nowhere")[0] == 404
    status, answer = ask(f"{server.url}/predict")
    assert (status, "by POST: a NumPy file (.npy) of normalised images" in str(answer)) == (405, True)


def test_a_port_in_use_is_told(server: MonitorServer, reference: Reference) -> None:
    with pytest.raises(MonitorError, match=r"Nothing can listen at .* choose another --port"):
        MonitorServer(Monitor(Sums(), reference), "sums", port=server.server_address[1]).server_close()
    with pytest.raises(MonitorError, match="ports are 0 to 65535"):
        MonitorServer(Monitor(Sums(), reference), "sums", port=99_999)


def test_a_reference_that_cannot_be_written_is_told(reference: Reference, tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match=r"cannot be written to .*nowhere"):
        reference.save(tmp_path / "nowhere" / "reference.json")


def test_the_command_says_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-monitor", str(tmp_path / "none.onnx"), "--data", "fashion_mnist"]) == 2
    assert "There is no file" in capsys.readouterr().err
    file = tmp_path / "small.onnx"
    file.write_bytes(convolutions(1).SerializeToString())
    assert main(["serve-monitor", str(file)]) == 2
    assert "Say what is normal" in capsys.readouterr().err
    file.write_bytes(b"no model")
    assert main(["serve-monitor", str(file), "--data", "fashion_mnist"]) == 2
    assert "cannot open" in capsys.readouterr().err


def test_a_reference_of_other_classes_is_told_at_once_and_the_service_goes_on(reference: Reference) -> None:
    other = Reference(reference.samples, np.array([1, 1, 1, 1]), 4, SHAPE)
    with pytest.raises(MonitorError, match=r"answers in shape \(1, 3\) and the reference has 4 classes"):
        other.require(Sums())
    monitor = Monitor(Sums(), other)
    with pytest.raises(MonitorError, match="make the reference of this model"):
        monitor.logits(draw(WINDOW, 1))
    assert monitor.predictions == 0


def test_a_window_that_cannot_be_compared_is_forgotten(reference: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = Monitor(Sums(), reference)
    with monkeypatch.context() as patch:
        patch.setattr("workbench.deploy.monitor.watch.of_logits", lambda logits: {})
        with pytest.raises(KeyError):
            monitor.logits(draw(WINDOW, 1))
    assert monitor.logits(draw(1, 1)).shape == (1, 3)
    assert monitor.predictions == WINDOW + 1


@pytest.mark.parametrize("batch", [1, 7, "N"])
def test_a_file_that_fixes_its_batch_is_asked_in_such_batches(batch: int | str) -> None:
    runner = OnnxRunner(convolutions(1, batch=batch), 1)
    images = torch.rand(510, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    found = Reference.of(runner, images)
    assert found.images == (504 if batch == 7 else 510)
    found.require(runner)
    with pytest.raises(MonitorError, match=r"takes images of 1×28×28 .* are 1×8×8: give the data it was made for"):
        Reference.of(runner, torch.rand(510, *SHAPE))


def test_requests_to_another_address_end_their_connection(server: MonitorServer) -> None:
    host, port = server.server_address[:2]
    with socket.create_connection((str(host), port), timeout=20) as link:
        link.sendall(b"POST /nowhere HTTP/1.1\r\nContent-Length: 26\r\n\r\nGET /status HTTP/1.1\r\n\r\n..")
        answer = b"".join(iter(lambda: link.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("format", ["onnx", "onnx-int8", "openvino"])
def test_a_file_tells_how_its_images_are_normalised(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(format.split("-")[0])
    given = Normalization((0.25,), (0.5,))
    model = load_model("lenet300", normalization=given)
    data = load_dataset("fashion_mnist")
    chosen = find_format(format)
    source = prepare(model, data, chosen.complete(Recipe())[0])
    file = chosen.write(source, tmp_path)[0]
    assert noted(chosen.open(file).metadata) == given  # type: ignore[attr-defined]
    seen: list[Tensor] = []

    def note(runner: object, images: Tensor) -> Reference:
        seen.append(images)
        raise MonitorError("Enough was seen.")

    monkeypatch.setattr(Reference, "of", note)
    assert main(["serve-monitor", str(file), "--data", "fashion_mnist"]) == 2
    assert seen[0].equal(given(data["validation"].images))
    assert "normalised by mean 0.25; std 0.5, as the file says" in capsys.readouterr().err
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(convolutions(1).SerializeToString())
    assert main(["serve-monitor", str(plain), "--data", "fashion_mnist"]) == 2
    assert "assumed from fashion_mnist, since the file does not say" in capsys.readouterr().err


def test_the_file_that_is_rehearsed_rounds_what_enters_its_layers() -> None:
    recipe = Recipe.parse("- quantize: {bits: 4, activations: {bits: 4}}")
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        images = session.normalization(session.split.images[:64])
        with torch.inference_mode():
            simulated = session.compress(recipe).fresh_module()(images).numpy()
        rehearsal = Rehearsal(session, recipe)
        found = np.concatenate([rehearsal.monitor.logits(image) for image in images.split(1)])
        rehearsal.close()
    assert np.abs(found - simulated).max() < 0.1


def test_memory_stays_flat(reference: Reference) -> None:
    import tracemalloc

    monitor, images = Monitor(Sums(), reference), draw(WINDOW, 2)
    monitor.logits(images)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(60):
        monitor.logits(images + 3)  # alarms each time
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert monitor.alarm_count > 100
    assert grown < 200_000


def test_an_onnx_file_is_watched() -> None:
    runner = OnnxRunner(convolutions(1), 1)
    images = torch.rand(600, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    monitor = Monitor(runner, Reference.of(runner, images))
    assert np.array_equal(monitor.logits(images[:5]), runner.logits(images[:5]))
