"""What is picked is opened beside what is shown, and whatever cannot be is told while the Session stays."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import workbench as wb
from tests.widgets.conftest import wait_until
from tests.widgets.fake_session import FakeSession
from tests.widgets.picker.conftest import Opened
from widgets import PickerView
from widgets.base.marks import marks_of
from widgets.picker.upload import FOLDERS
from widgets.recipe.link import read_link
from workbench.recipe import Recipe

QUANTIZED = "- quantize: {bits: 4}"


def export(folder: Path, classes: int, shape: tuple[int, int, int] = (1, 28, 28)) -> Path:
    """Write a small network as ONNX."""
    from workbench.run.onnx_export import export_graph

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(shape[0], 4, 3, stride=2), nn.ReLU(), nn.Flatten())
    with torch.no_grad():
        size = net(torch.zeros(1, *shape)).shape[1]
    net.append(nn.Linear(size, classes)).eval()
    path = folder / "net.onnx"
    path.write_bytes(export_graph(net, shape).build(net.state_dict()).SerializeToString())
    return path


def test_of_many_wishes_only_the_last_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    started, free = threading.Event(), threading.Event()
    opened: list[tuple[str, str]] = []
    closed: list[FakeSession] = []

    class Closing(FakeSession):
        def close(self) -> None:
            closed.append(self)
            super().close()

    def open_slowly(model: str, data: str) -> Any:
        opened.append((model, data))
        started.set()
        assert free.wait(10)
        session = Closing()
        session.model.name = model
        return session

    monkeypatch.setattr("widgets.picker.loading.open_session", open_slowly)
    shown: list[Any] = []
    view = PickerView(loaded=shown.append, models=["a", "b", "c"])
    thread = view.choose("a", "d")
    assert started.wait(10)
    for name in ("b", "c"):
        view.choose(name, "d")
    free.set()
    thread.join(10)
    assert opened == [("a", "d"), ("c", "d")]
    assert [session.model.name for session in shown] == ["c"]
    assert [session.model.name for session in closed] == ["a"]
    assert view.status == ""
    view.close()
    shown[0].close()


@pytest.mark.parametrize("first", ["model", "data"])
def test_what_is_picked_while_the_other_is_loading_is_opened_with_it(
    monkeypatch: pytest.MonkeyPatch, live: FakeSession, first: str
) -> None:
    started, free = threading.Event(), threading.Event()
    opened: list[tuple[Any, Any]] = []

    def open_slowly(model: Any, data: Any) -> Any:
        opened.append((getattr(model, "name", model), getattr(data, "name", data)))
        started.set()
        assert free.wait(10)
        session = FakeSession()
        session.model.name, session.data.name = opened[-1]
        return session

    monkeypatch.setattr("widgets.picker.loading.open_session", open_slowly)
    view = PickerView(live)
    picked = {"model": "lenet5", "data": "mnist"}
    second = "data" if first == "model" else "model"
    view._handle_custom_msg({"do": "choose", "kind": first, "name": picked[first]}, [])
    assert started.wait(10)
    view._handle_custom_msg({"do": "choose", "kind": second, "name": picked[second]}, [])
    free.set()
    wait_until(view, "chosen", lambda chosen: chosen == picked)
    wait_until(view, "status", lambda text: not text)
    assert opened[-1] == ("lenet5", "mnist")
    assert view._loader.wished is None
    view._handle_custom_msg({"do": "choose", "kind": "model", "name": "lenet300"}, [])
    wait_until(view, "chosen", lambda chosen: chosen["model"] == "lenet300")
    assert opened[-1] == ("lenet300", "mnist")
    view.close()


def test_a_model_that_cannot_be_loaded_is_said_and_the_session_stays(live: FakeSession) -> None:
    view = PickerView(live)
    view.choose("no such model", "fashion_mnist").join(60)
    assert "no such model" in view.error
    assert view.session is live
    assert view.chosen["model"] == "resnet20"
    view._handle_custom_msg({"do": "dismiss"}, [])
    assert view.error == ""
    view.close()


def test_what_was_loaded_is_told_with_splits_normalisation_and_accuracy(live: FakeSession) -> None:
    view = PickerView(live)
    for fact in ("test 10,000", "validation 5,000", "train 10,000", "mean 0.286; std 0.353"):
        assert fact in view.data_facts
    facts = wait_until(view, "model_facts", lambda text: "%" in text)
    for fact in ("32 parameters", "20 layers", "93.10 % on test"):
        assert fact in facts
    view.close()


def test_another_model_brings_its_own_session_and_what_is_shown_is_not_loaded_again(opened: Opened) -> None:
    before = opened.session
    opened.view._handle_custom_msg({"do": "choose", "kind": "model", "name": "lenet5"}, [])
    opened.wait()
    assert opened.session.model.name == "lenet5"
    assert opened.session.data is before.data
    assert opened.view.chosen == {"model": "lenet5", "data": "fashion_mnist"}


def test_a_folder_of_images_is_brought_to_the_model_and_the_recipe_stays(
    opened: Opened, folder: Callable[..., Path]
) -> None:
    opened.session.apply(QUANTIZED)
    locked = {opened.session.layers[0].name}
    marks_of(opened.session).lock(locked)
    assert opened.open("data", folder(10)) == ""
    assert opened.session.data.name == "pets"
    assert opened.session.data.image_shape == (1, 28, 28)
    assert opened.session.recipe == Recipe.parse(QUANTIZED)
    assert marks_of(opened.session).locked == locked
    assert "were scaled" in opened.view.data_facts
    assert "made grey" in opened.view.data_facts
    assert "pets" in opened.view.datasets
    opened.view._handle_custom_msg({"do": "choose", "kind": "data", "name": "fashion_mnist"}, [])
    opened.wait()
    assert opened.session.data.name == "fashion_mnist"
    assert "pets" in opened.view.datasets, "it can be chosen again"


def test_a_folder_with_other_classes_waits_for_a_model_and_the_session_stays(
    opened: Opened, folder: Callable[..., Path], tmp_path: Path
) -> None:
    before = opened.session
    assert opened.open("data", folder(3)) == ""
    assert opened.session is before
    assert opened.view.pending["kind"] == "data"
    assert "10 classes" in opened.view.pending["why"]
    assert "has 3" in opened.view.pending["why"]
    assert opened.open("model", export(tmp_path, classes=3)) == ""
    assert (opened.session.model.name, opened.session.data.name) == ("net.onnx", "pets")
    assert opened.view.pending == {}


def test_a_model_for_other_images_waits_for_data(opened: Opened, folder: Callable[..., Path], tmp_path: Path) -> None:
    before = opened.session
    assert opened.open("model", export(tmp_path, classes=10, shape=(3, 16, 16))) == ""
    assert opened.session is before
    assert opened.view.pending["name"] == "net.onnx"
    assert "3×16×16" in opened.view.pending["why"]
    assert opened.view.chosen == {"model": "lenet300", "data": "fashion_mnist"}
    assert opened.open("data", folder(10)) == ""
    assert (opened.session.model.name, opened.session.data.image_shape) == ("net.onnx", (3, 16, 16))


def test_what_waits_does_not_stand_in_the_way_of_what_fits_what_is_shown(
    opened: Opened, folder: Callable[..., Path]
) -> None:
    opened.open("data", folder(3))
    opened.view._handle_custom_msg({"do": "choose", "kind": "model", "name": "lenet5"}, [])
    opened.wait()
    assert (opened.session.model.name, opened.session.data.name) == ("lenet5", "fashion_mnist")
    assert opened.view.pending["name"] == "pets"
    opened.view._handle_custom_msg({"do": "discard"}, [])
    assert opened.view.pending == {}


def test_a_packed_file_opens_its_model_with_its_recipe(opened: Opened, tmp_path: Path) -> None:
    path = wb.compress("lenet5", QUANTIZED).save(tmp_path / "small.wbz")
    assert opened.open("model", path) == ""
    assert opened.session.model.name == "lenet5"
    assert opened.session.recipe == Recipe.parse(QUANTIZED)
    assert opened.session.compressed.archive.to_bytes() == path.read_bytes()
    assert "differ" not in opened.view.model_facts


def test_a_packed_file_of_other_weights_says_so(opened: Opened, tmp_path: Path) -> None:
    model = wb.load_model("lenet5")
    with torch.no_grad():
        next(model.module.parameters()).mul_(1.5)
    path = wb.compress(model, QUANTIZED).save(tmp_path / "odd.wbz")
    assert opened.open("model", path) == ""
    assert "differ from what its recipe gives here" in opened.view.model_facts


def test_a_packed_file_with_steps_that_were_trained_elsewhere_opens_and_others_after_it(
    opened: Opened, tmp_path: Path
) -> None:
    plain = wb.compress("lenet5", QUANTIZED).archive
    steps = [*plain.recipe, {"finetune": {"epochs": 1, "seed": 7}}]
    path = dataclasses.replace(plain, recipe=steps).save(tmp_path / "tuned.wbz")
    assert opened.open("model", path) == ""
    assert opened.session.recipe == Recipe.parse(steps)
    small = wb.compress("lenet5", QUANTIZED).save(tmp_path / "small.wbz")
    assert opened.open("model", small) == ""
    assert opened.session.recipe == Recipe.parse(QUANTIZED)


def test_a_packed_file_of_another_architecture_keeps_its_recipe(opened: Opened, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    path = wb.compress(net, QUANTIZED, image_shape=(1, 28, 28)).save(tmp_path / "own.wbz")
    problem = opened.open("model", path)
    assert "not in the zoo" in problem
    assert [Recipe.parse(text) for text in opened.texts] == [Recipe.parse(QUANTIZED)]
    assert opened.session.model.name == "lenet300"


def test_an_onnx_file_from_here_opens_again(opened: Opened, tmp_path: Path) -> None:
    path = tmp_path / "small.onnx"
    path.write_bytes(opened.session.onnx_file(Recipe.parse(QUANTIZED)))
    assert opened.open("model", path) == ""
    assert opened.session.model.name == "small.onnx"
    assert {layer.name for layer in opened.session.layers} == {layer.name for layer in opened.sessions[0].layers}


@pytest.mark.parametrize(
    ("kind", "name", "content", "said"),
    [
        ("model", "net.h5", b"x", "kind the workbench does not load"),
        ("model", "net.onnx", b"not onnx at all", "not a sound ONNX file"),
        ("model", "net.wbz", b"\x89WBZ", "truncated"),
        ("model", "net.wbz", b"PK34", "not a .wbz file"),
        ("model", "net.pt", b"half a file", "net.pt"),
        ("data", "images.csv", b"a,b", "no kind of data"),
        ("data", "images.npz", b"PK", "images.npz"),
        ("data", "images.parquet", b"PAR1", "images.parquet"),
    ],
)
def test_a_bad_file_is_one_sentence_and_the_session_stays(
    opened: Opened, tmp_path: Path, kind: str, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    problem = opened.open(kind, tmp_path / name)
    assert said in problem
    assert "\n" not in problem
    assert len(opened.sessions) == 1
    assert opened.view.status == ""


def test_paths_are_checked(opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "There is no file or folder" in opened.open("data", tmp_path / "nowhere")
    monkeypatch.setenv(FOLDERS, "")
    assert "upload them instead" in opened.open("data", tmp_path)
    view = PickerView()
    assert view.opens["paths"] == "none"
    view.close()


def test_an_upload_arrives_in_pieces_and_opens(opened: Opened, tmp_path: Path) -> None:
    data = export(tmp_path, classes=10, shape=(1, 28, 28)).read_bytes()
    tell = opened.view._handle_custom_msg
    tell({"do": "upload", "ticket": 5, "name": "up.onnx", "files": 1, "bytes": len(data)}, [])
    half = len(data) // 2
    for start, piece in ((0, data[:half]), (half, data[half:])):
        parts = [{"path": "up.onnx", "offset": start, "size": len(piece)}]
        tell({"do": "piece", "ticket": 5, "parts": parts}, [memoryview(piece)])
    assert [answer["bytes"] for answer in opened.answers] == [0, half, len(data)]
    tell({"do": "uploaded", "ticket": 5, "kind": "model"}, [])
    opened.wait()
    assert opened.answers[-1] == {"opened": 5, "problem": ""}
    assert opened.session.model.name == "up.onnx"
    assert read_link(opened.view.address["fragment"]).model == "file:up.onnx"


def test_a_bad_upload_is_called_as_the_person_calls_it(opened: Opened) -> None:
    tell = opened.view._handle_custom_msg
    tell({"do": "upload", "ticket": 5, "name": "half.safetensors", "files": 1, "bytes": 4}, [])
    part = {"path": "half.safetensors", "offset": 0, "size": 4}
    tell({"do": "piece", "ticket": 5, "parts": [part]}, [memoryview(b"abcd")])
    tell({"do": "uploaded", "ticket": 5, "kind": "model"}, [])
    opened.wait()
    assert opened.answers[-1]["problem"].startswith("half.safetensors is not a sound safetensors file")


def test_half_an_upload_opens_nothing(opened: Opened) -> None:
    tell = opened.view._handle_custom_msg
    tell({"do": "upload", "ticket": 5, "name": "up.onnx", "files": 1, "bytes": 10}, [])
    tell({"do": "piece", "ticket": 5, "parts": [{"path": "up.onnx", "offset": 0, "size": 4}]}, [memoryview(b"abcd")])
    tell({"do": "uploaded", "ticket": 5, "kind": "model"}, [])
    assert "Only 4 of the 10 bytes" in opened.answers[-1]["problem"]
    tell({"do": "upload", "ticket": 6, "name": "huge.onnx", "files": 1, "bytes": 10**12}, [])
    assert "MB" in opened.answers[-1]["problem"]
    assert len(opened.sessions) == 1
