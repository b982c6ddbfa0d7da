"""What is picked is opened beside what is shown, and whatever cannot be is told while the Session stays."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import workbench as wb
from tests.widgets.conftest import wait_until
from tests.widgets.fake_session import FakeSession
from widgets import PickerView, Workbench
from widgets.base.marks import marks_of
from widgets.picker.upload import FOLDERS
from widgets.recipe.link import read_link, write_link
from workbench.recipe import Recipe
from workbench.train.jobs.process import Within

QUANTIZED = "- quantize: {bits: 4}"


@pytest.fixture(scope="module")
def images() -> wb.Dataset:
    """Fashion-MNIST with 200 images a split, under its own name."""
    data = wb.load_dataset("fashion_mnist")
    return dataclasses.replace(
        data, splits={name: split.take(torch.arange(200)) for name, split in data.splits.items()}
    )


@pytest.fixture(autouse=True)
def _small_data(images: wb.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load few images wherever Fashion-MNIST is asked for."""
    load = wb.load_dataset

    def load_few(source: Any, **options: Any) -> wb.Dataset:
        return images if source == "fashion_mnist" else load(source, **options)

    monkeypatch.setattr("workbench.data.load.load_dataset", load_few)
    monkeypatch.delenv(FOLDERS, raising=False)


class Opened:
    """A picker on LeNet-300-100, and what it handed on."""

    def __init__(self, images: wb.Dataset) -> None:
        self.sessions: list[wb.Session] = [wb.Session("lenet300", images, history=":memory:")]
        self.texts: list[str] = []
        self.answers: list[dict[str, Any]] = []
        self.view = PickerView(self.sessions[0], loaded=self.sessions.append, unread=self.texts.append)
        self.view.send = lambda content, buffers=None: self.answers.append(content)

    @property
    def session(self) -> wb.Session:
        assert self.view.session is not None
        return self.view.session

    def open(self, kind: str, path: Path | str) -> str:
        """Do what the dialog does with a typed path; return the problem it is told."""
        before = len(self.answers)
        self.view._handle_custom_msg({"do": "path", "kind": kind, "path": str(path), "ticket": 7}, [])
        self.wait()
        told = [answer for answer in self.answers[before:] if answer.get("opened") == 7]
        assert len(told) == 1, self.answers
        return str(told[0]["problem"])

    def follow(self, fragment: str) -> None:
        self.view._handle_custom_msg({"do": "link", "fragment": fragment, "number": 1}, [])
        self.wait()
        assert self.view.address["answered"] == 1

    def wait(self) -> None:
        thread = self.view._loader._thread
        if thread is not None:
            thread.join(60)
        assert not self.view._loader.busy


@pytest.fixture
def opened(images: wb.Dataset) -> Iterator[Opened]:
    opened = Opened(images)
    yield opened
    opened.view.close()
    for session in opened.sessions:
        session.close()


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def make(classes: int, size: int = 20, mode: str = "RGB") -> Path:
        rng = np.random.default_rng(classes)
        for name in range(classes):
            place = tmp_path / "pets" / f"class{name}"
            place.mkdir(parents=True)
            for number in range(12):
                pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(place / f"{number}.png")
        return tmp_path / "pets"

    return make


# Choosing


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


def test_a_link_to_what_is_being_loaded_does_not_load_it_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    started, free = threading.Event(), threading.Event()
    opened: list[FakeSession] = []

    def open_slowly(model: str, data: str) -> Any:
        started.set()
        assert free.wait(10)
        opened.append(FakeSession())
        return opened[-1]

    monkeypatch.setattr("widgets.picker.loading.open_session", open_slowly)
    view = PickerView()
    thread = view.choose("", "")
    assert started.wait(10)
    view.follow(write_link("resnet20", "fashion_mnist", Recipe.parse(QUANTIZED).to_data(), ("fc",)), 3)
    free.set()
    thread.join(10)
    assert len(opened) == 1
    assert opened[0].recipe == Recipe.parse(QUANTIZED)
    assert marks_of(opened[0]).locked == {"fc"}
    assert view.address["answered"] == 3
    view.close()
    opened[0].close()


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
    for fact in ("32 parameters", "20 layers", "93.10 % on test, n = 10,000"):
        assert fact in facts
    view.close()


def test_another_model_brings_its_own_session_and_what_is_shown_is_not_loaded_again(opened: Opened) -> None:
    before = opened.session
    opened.view._handle_custom_msg({"do": "choose", "kind": "model", "name": "lenet5"}, [])
    opened.wait()
    assert opened.session.model.name == "lenet5"
    assert opened.session.data is before.data
    assert opened.view.chosen == {"model": "lenet5", "data": "fashion_mnist"}


# Files and folders


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


def test_half_an_upload_opens_nothing(opened: Opened) -> None:
    tell = opened.view._handle_custom_msg
    tell({"do": "upload", "ticket": 5, "name": "up.onnx", "files": 1, "bytes": 10}, [])
    tell({"do": "piece", "ticket": 5, "parts": [{"path": "up.onnx", "offset": 0, "size": 4}]}, [memoryview(b"abcd")])
    tell({"do": "uploaded", "ticket": 5, "kind": "model"}, [])
    assert "Only 4 of the 10 bytes" in opened.answers[-1]["problem"]
    tell({"do": "upload", "ticket": 6, "name": "huge.onnx", "files": 1, "bytes": 10**12}, [])
    assert "MB" in opened.answers[-1]["problem"]
    assert len(opened.sessions) == 1


# Links and the address


def test_the_address_brings_back_what_is_shown(opened: Opened, images: wb.Dataset) -> None:
    marks_of(opened.session).lock([opened.session.layers[0].name])
    opened.session.apply(QUANTIZED)
    fragment = wait_until(opened.view, "address", lambda address: "recipe" in address["fragment"])["fragment"]
    other = Opened(images)
    other.follow(write_link("lenet5", "fashion_mnist", []))
    assert other.session.model.name == "lenet5"
    other.follow(fragment)
    assert other.session.model.name == "lenet300"
    assert other.session.recipe == opened.session.recipe
    assert marks_of(other.session).locked == marks_of(opened.session).locked
    other.view.close()
    for session in other.sessions:
        session.close()


def test_a_link_to_what_is_shown_only_sets_the_recipe(opened: Opened) -> None:
    opened.follow(write_link("lenet300", "fashion_mnist", Recipe.parse(QUANTIZED).to_data()))
    assert opened.session.recipe == Recipe.parse(QUANTIZED)
    opened.follow(write_link("lenet300", "fashion_mnist", []))
    assert opened.session.recipe == Recipe()
    assert len(opened.sessions) == 1


def test_a_page_as_it_opens_has_a_plain_address(live: FakeSession) -> None:
    view = PickerView(live)
    assert view.address["fragment"] == ""
    live.apply(Recipe.parse(QUANTIZED))
    wait_until(view, "address", lambda address: address["fragment"].endswith("&v=1"))
    view.close()


STEPS = Recipe.parse(QUANTIZED).to_data()


@pytest.mark.parametrize(
    ("fragment", "said"),
    [
        (write_link("file:mine.onnx", "fashion_mnist", STEPS), "opened from a file"),
        (write_link("resnet2000", "fashion_mnist", STEPS), "not known here"),
        (write_link("lenet300", "file:pets", STEPS), "opened from a file"),
        (write_link("torchvision:resnet18", "fashion_mnist", STEPS), "not known here"),
        (write_link("/no/such/net.onnx", "fashion_mnist", STEPS), "There is no file"),
        (write_link("lenet300", "fashion_mnist", STEPS).replace("v=1", "v=2"), "newer version"),
        (write_link("lenet300", "fashion_mnist", STEPS)[:-10], "damaged"),
    ],
)
def test_a_bad_link_is_one_sentence_its_recipe_is_kept_and_the_page_is_usable(
    opened: Opened, fragment: str, said: str
) -> None:
    opened.follow(fragment)
    assert said in opened.view.error
    assert len(opened.texts) == 1
    assert "quantize" in opened.texts[0]
    assert len(opened.sessions) == 1
    opened.session.measure("- prune: {ratio: 0.5}")


def test_a_link_with_a_recipe_that_does_not_fit_opens_the_rest(opened: Opened) -> None:
    opened.follow(write_link("lenet5", "fashion_mnist", [{"quantize": {"bits": 4, "layers": ["stage1.*"]}}]))
    assert opened.session.model.name == "lenet5"
    assert opened.session.recipe == Recipe()
    assert "stage1" in opened.texts[0]


def test_the_workbench_shows_a_links_unusable_recipe_in_its_editor(live: FakeSession) -> None:
    page = Workbench(live)
    page.picker.follow(write_link("resnet20", "fashion_mnist", [{"distil": {"teacher": "x"}}]), 1)
    editor = page.panels["recipe"]
    assert page.tabs.chosen == "recipe"
    assert editor.draft["edited"]
    assert "distil" in editor.draft["text"]
    assert "there is no technique 'distil'" in editor.checked["problem"]
    page.close()


def test_the_address_costs_little_while_a_slider_moves(live: FakeSession, sent: list[Any]) -> None:
    view = PickerView(live)
    wait_until(view, "model_facts", lambda text: "%" in text)
    sent.clear()
    live.apply(Recipe.parse("- prune: {ratio: 0.6}\n- quantize: {bits: 4}"))
    wait_until(view, "address", lambda address: "quantize" in address["fragment"])
    view.close()
    assert sum(size for _, size in sent) < 1_500, sent


def export(folder: Path, classes: int, shape: tuple[int, int, int] = (1, 28, 28)) -> Path:
    """Write a small network as ONNX."""
    from workbench.run.onnx_graph import export_graph

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(shape[0], 4, 3, stride=2), nn.ReLU(), nn.Flatten())
    with torch.no_grad():
        size = net(torch.zeros(1, *shape)).shape[1]
    net.append(nn.Linear(size, classes)).eval()
    path = folder / "net.onnx"
    path.write_bytes(export_graph(net, shape).build(net.state_dict()).SerializeToString())
    return path


def test_a_model_is_fine_tuned_on_data_with_other_classes_and_both_are_opened(opened: Opened, tmp_path: Path) -> None:
    folder = tmp_path / "sides"
    for name, side in (("left", slice(0, 14)), ("right", slice(14, 28))):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.zeros((28, 28), np.uint8)
            pixels[number % 8 : 28, side] = 180 + number
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    opened.view._making.place = Within
    opened.open("data", folder)
    assert opened.view.pending["transfers"] == {"model": "lenet300", "data": "sides", "classes": 2, "images": 24}
    told: list[dict[str, Any]] = []
    opened.view.observe(lambda change: told.append(change["new"]), "making")
    thread = opened.view.start_transfer()
    assert thread is not None
    thread.join(60)
    opened.wait()
    assert opened.view.error == ""
    session = opened.sessions[1]
    assert session.model.name == "lenet300-sides.safetensors"
    assert session.data.classes == ("left", "right")
    assert any(one.get("best") is not None for one in told)
    assert opened.view.making == opened.view.pending == {}


def test_a_transfer_that_is_stopped_leaves_the_data_waiting(opened: Opened, tmp_path: Path) -> None:
    for name in ("left", "right"):
        (tmp_path / "sides" / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(np.full((28, 28), number, np.uint8)).save(tmp_path / "sides" / name / f"{number}.png")
    opened.view._making.place = Within
    opened.open("data", tmp_path / "sides")
    opened.view.observe(lambda change: opened.view.receive({"do": "stop"}, []), "making")
    thread = opened.view.start_transfer()
    assert thread is not None
    thread.join(60)
    assert opened.view.making == {}
    assert opened.view.error == ""
    assert opened.view.pending["name"] == "sides"
    assert len(opened.sessions) == 1


def test_a_designed_student_tells_what_it_needs_and_is_taught_by_what_is_open(opened: Opened) -> None:
    assert {"name": "resnet20", "deep": True} in opened.view.designs
    wish = {"base": "lenet300", "width": 0.3, "depth": 1}
    thread = opened.view._designer.ask(opened.session, {**wish, "number": 3})
    thread.join(60)
    told = opened.view.design
    assert (told["number"], told["problem"]) == (3, "")
    assert told["student"]["parameters"] < 0.4 * told["teacher"]["parameters"]
    assert told["student"]["latency"]["ms"] > 0
    opened.view._designer.ask(opened.session, {**wish, "width": 0, "number": 4}).join(60)
    assert "width is from 0.05" in opened.view.design["problem"]
    opened.view._making.place = Within
    teaching = opened.view.start_teaching({**wish, "epochs": 1})
    assert teaching is not None
    teaching.join(120)
    opened.wait()
    assert opened.view.error == ""
    assert opened.session.model.name == "lenet300-w0.3-d1.safetensors"
    assert opened.session.model.card["teacher"] == "lenet300"
