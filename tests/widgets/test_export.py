"""What is promised is what is downloaded and saved, to the byte; a page that goes away costs nothing."""

from __future__ import annotations

import dataclasses
import errno
import io
import os
import re
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import workbench as wb
from tests.widgets.conftest import wait_until
from widgets import ExportView
from widgets.export.download import AHEAD, PIECE, Downloads
from widgets.export.view import SERVED, file_name, write_file
from workbench.deploy.normalizing import noted
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.run.runner import OnnxRunner

RECIPE = Recipe.parse("- prune: {ratio: 0.6}\n- quantize: {bits: 4}")
INT8 = Recipe.parse("- quantize: {bits: 8, activations: {bits: 8}}")


@pytest.fixture(scope="module")
def session() -> Iterator[wb.Session]:
    data = wb.load_dataset("fashion_mnist")
    splits = {name: split.take(torch.arange(200)) for name, split in data.splits.items()}
    with wb.Session("lenet5", dataclasses.replace(data, splits=splits), history=":memory:") as session:
        yield session


@pytest.fixture
def view(session: wb.Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExportView]:
    monkeypatch.delenv(SERVED, raising=False)
    session.measure(RECIPE)
    view = ExportView(session)
    view.page = Page(view)
    wait_until(view, "layers", bool)
    yield view
    view.close()


class Page:
    """Takes what a view sends, and answers each piece as the page does."""

    def __init__(self, view: Any = None, answers: bool = True) -> None:
        self.view, self.answers = view, answers
        self.messages: list[dict[str, Any]] = []
        self.data: dict[int, bytes] = {}
        self.largest = 0
        self._changed = threading.Condition()
        if view is not None:
            view.send = view._downloads._send = self.take

    def take(self, content: dict[str, Any], buffers: Any = None) -> None:
        with self._changed:
            self.messages.append(content)
            ticket = content.get("download", 0)
            for buffer in buffers or ():
                self.largest = max(self.largest, len(buffer))
                self.data[ticket] = self.data.get(ticket, b"") + bytes(buffer)
            self._changed.notify_all()
        if buffers and self.answers and self.view is not None:
            self.view._handle_custom_msg({"do": "answer", "ticket": ticket, "pieces": content["piece"] + 1}, [])

    def wait(self, holds: Any) -> None:
        with self._changed:
            assert self._changed.wait_for(holds, 30), self.messages

    def download(self, kind: str, ticket: int = 1) -> tuple[str, bytes]:
        self.view._handle_custom_msg({"do": "download", "kind": kind, "ticket": ticket}, [])
        self.wait(lambda: any("name" in message for message in self.messages if message.get("download") == ticket))
        head = next(message for message in self.messages if message.get("download") == ticket)
        self.wait(lambda: len(self.data.get(ticket, b"")) >= head["bytes"])
        return head["name"], self.data[ticket]

    def save(self, kind: str, path: Path | str) -> dict[str, Any]:
        self.messages.clear()
        self.view._handle_custom_msg({"do": "save", "kind": kind, "path": str(path), "ticket": 9}, [])
        self.wait(lambda: self.messages)
        return self.messages[0]


def entry(view: ExportView, kind: str) -> dict[str, Any]:
    return next(file for file in view.files if file["kind"] == kind)


# Sizes


@pytest.mark.parametrize("kind", ["packed", "onnx", "recipe"])
def test_the_size_shown_is_that_of_the_download_and_of_the_file_on_disk(
    view: ExportView, kind: str, tmp_path: Path
) -> None:
    name, data = view.page.download(kind)
    assert entry(view, kind)["exact"]
    assert entry(view, kind)["bytes"] == len(data)
    assert entry(view, kind)["name"] == name
    told = view.page.save(kind, tmp_path)
    assert (told["problem"], told["bytes"], told["path"]) == ("", len(data), str(tmp_path / name))
    assert (tmp_path / name).read_bytes() == data


def test_the_packed_file_is_the_one_that_the_recipe_gives_elsewhere(view: ExportView, session: wb.Session) -> None:
    from workbench.deploy.writing import prepare

    again = prepare(wb.load_model("lenet5"), session.data, Recipe.parse(RECIPE.to_yaml()))
    assert view.page.download("packed", 5)[1] == again.compressed.archive.to_bytes()


def test_what_is_downloaded_can_be_loaded_again(view: ExportView, session: wb.Session, tmp_path: Path) -> None:
    images = session.data.normalization(session.data["test"].images[:20])
    with torch.no_grad():
        expected = session.compressed.module(images)
    for kind, load in (("packed", wb.load_compressed), ("onnx", wb.load_model)):
        name, data = view.page.download(kind, ticket=len(kind))
        (tmp_path / name).write_bytes(data)
        with torch.no_grad():
            torch.testing.assert_close(load(tmp_path / name).module(images), expected)
        if kind == "onnx":
            assert len(data) == entry(view, "onnx")["bytes"]
            assert noted(OnnxRunner(data).metadata) == session.normalization
    assert Recipe.parse(view.page.download("recipe", 3)[1].decode()) == RECIPE


def test_the_parts_of_the_packed_file_add_up_to_it(view: ExportView) -> None:
    assert sum(part["bytes"] for part in view.parts) == entry(view, "packed")["bytes"]
    assert any("4-bit integers" in part["label"] for part in view.parts)
    assert [row[0] for row in view.layers] == [layer.name for layer in view.session.layers]


def test_a_name_carries_the_recipes_hash() -> None:
    assert file_name("resnet20", RECIPE, "packed") == f"resnet20-{RECIPE.hash[:8]}.wbz"
    assert file_name("my net (2).onnx", RECIPE, "onnx") == f"my-net-2-{RECIPE.hash[:8]}.onnx"
    assert file_name("../..", RECIPE, "recipe") == f"model-{RECIPE.hash[:8]}.yaml"


def test_a_file_that_runs_in_int8_is_made_once_so_that_its_size_is_exact(view: ExportView, session: wb.Session) -> None:
    session.measure(INT8)
    files = wait_until(view, "files", lambda files: files[1]["exact"] and INT8.hash[:8] in files[1]["name"])
    assert "int8 kernels" in files[1]["about"]
    assert "rounded anew" in files[1]["about"], "affine codes of 8 bits are not around zero"
    name, data = view.page.download("onnx")
    assert (name, len(data)) == (files[1]["name"], files[1]["bytes"])
    ask(view, "onnx-int8", 30)
    assert view.page.data[30] == data, "what is exported is what is shown and timed"


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("[]", ["Weights in fp32."]),
        ("- quantize: {bits: 16}", ["16-bit floats", "not faster"]),
        ("- quantize: {bits: 3}", ["4-bit integers", "not faster"]),
        ("- prune: {ratio: 0.5}", ["fp32", "stores zeros like other weights"]),
        ("- quantize: {bits: 8, activations: {bits: 6}}", ["Activations are not rounded in it"]),
    ],
)
def test_it_says_what_onnx_holds_and_what_it_cannot(
    view: ExportView, session: wb.Session, recipe: str, said: list[str]
) -> None:
    session.measure(recipe)
    wanted = Recipe.parse(recipe).hash[:8]
    files = wait_until(view, "files", lambda files: wanted in files[1]["name"])
    for words in said:
        assert words in files[1]["about"]


def test_a_view_nobody_sees_makes_nothing(session: wb.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(session), "onnx_file", lambda *_: pytest.fail("nobody asked for it"))
    view = ExportView(session, visible=False)
    session.measure(INT8)
    assert view.files == []
    view.close()


def test_a_move_sends_little_while_the_tab_is_open(view: ExportView, session: wb.Session, sent: list[Any]) -> None:
    recipe = Recipe.parse("- prune: {ratio: 0.7}\n- quantize: {bits: 3}")
    sent.clear()
    session.measure(recipe)
    wait_until(view, "files", lambda files: recipe.hash[:8] in files[0]["name"])
    assert sum(size for _, size in sent) < 6_000


# Runtimes


def ask(view: ExportView, format: str, ticket: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Have a format made, and return the message with its remarks and that which heads the download."""
    page = view.page
    view._handle_custom_msg({"do": "make", "format": format, "ticket": ticket}, [])
    page.wait(lambda: any(message.get("download") == ticket for message in page.messages))
    head = next(message for message in page.messages if message.get("download") == ticket)
    if "bytes" in head:
        page.wait(lambda: len(page.data.get(ticket, b"")) >= head["bytes"])
    said = (message for message in page.messages if message.get("made") == ticket and "verdict" in message)
    return next(said, {}), head


def test_every_format_is_offered_with_its_install_line_where_it_needs_one(view: ExportView) -> None:
    from workbench.deploy.formats import FORMATS

    assert [entry["name"] for entry in view.formats] == [name for name in FORMATS if name != "wbz"]
    assert all(entry["installed"] or entry["install"] for entry in view.formats)


def test_a_format_is_made_with_what_it_cannot_hold_and_opens(view: ExportView, tmp_path: Path) -> None:
    from workbench.deploy.formats import FORMATS

    told, head = ask(view, "onnx-int8", 31)
    assert re.fullmatch(
        r"Tried in onnxruntime [\d.]+: [\d.]+% of 200 test images get the simulation's answer, [\d.]+% are right "
        r"\([\d.]+% in the simulation\); [\d.e-]+ ms an image on one thread, \d+ ms to open\.",
        told["verdict"],
    )
    doing = [message["doing"] for message in view.page.messages if message.get("made") == 31 and "doing" in message]
    assert doing == ["Compressing", "Writing", "Simulating in torch", "Running in onnxruntime"]
    assert any("added 'quantize" in remark for remark in told["remarks"])
    assert any("% of the weights are zero" in remark for remark in told["remarks"])
    (tmp_path / head["name"]).write_bytes(view.page.data[31])
    images = view.session.data.normalization(view.session.data["test"].images[:5])
    assert FORMATS["onnx-int8"].open(tmp_path / head["name"]).logits(images).shape == (5, 10)


def test_a_format_of_several_files_comes_as_one_archive(view: ExportView) -> None:
    _, head = ask(view, "openvino", 32)
    assert head["name"].endswith(".openvino.xml.zip")
    with zipfile.ZipFile(io.BytesIO(view.page.data[32])) as archive:
        assert [Path(name).suffix for name in archive.namelist()] == [".xml", ".bin"]


def test_a_format_that_cannot_be_made_is_told_where_it_was_asked_for(view: ExportView) -> None:
    _, head = ask(view, "floppy", 33)
    assert "There is no format 'floppy'" in head["problem"]


# Downloads


def test_a_large_file_travels_in_pieces_of_at_most_a_megabyte() -> None:
    data = os.urandom(3 * PIECE + 17)
    page = Page()
    downloads = Downloads(page.take, patience=30)
    page.view = Answering(downloads)
    downloads.start(1, lambda: ("big.onnx", data)).result()
    assert page.data[1] == data
    assert page.largest == PIECE <= 1_000_000
    assert page.messages[0] == {"download": 1, "name": "big.onnx", "bytes": len(data)}


class Answering:
    """Hands the page's answers to the downloads, as a view does."""

    def __init__(self, downloads: Downloads) -> None:
        self.downloads = downloads

    def _handle_custom_msg(self, content: dict[str, Any], _: Any) -> None:
        self.downloads.answer(content["ticket"], content["pieces"])


def test_a_page_closed_in_the_middle_ends_the_download() -> None:
    page = Page(answers=False)
    job = Downloads(page.take, patience=0.05).start(1, lambda: ("big.onnx", bytes(20 * PIECE)))
    assert job.wait(30)
    assert job.progress.state == "failed"
    assert sum(map(len, page.data.values())) == AHEAD * PIECE, "no more was sent than may be unanswered"
    assert "did not answer" in page.messages[-1]["problem"]


def test_a_cancelled_download_ends_at_once() -> None:
    page = Page(answers=False)
    downloads = Downloads(page.take, patience=600)
    job = downloads.start(1, lambda: ("big.onnx", bytes(20 * PIECE)))
    page.wait(lambda: len(page.data.get(1, b"")) == AHEAD * PIECE)
    downloads.cancel(1)
    assert job.wait(10)
    assert job.progress.state == "cancelled"


def test_closing_the_view_ends_its_downloads() -> None:
    page = Page(answers=False)
    downloads = Downloads(page.take, patience=600)
    jobs = [downloads.start(ticket, lambda: ("big.onnx", bytes(20 * PIECE))) for ticket in (1, 2)]
    downloads.close()
    assert all(job.wait(10) for job in jobs)


def test_a_file_that_cannot_be_made_is_told_where_it_was_asked_for(
    view: ExportView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> bytes:
        raise WorkbenchError("'lenet5' cannot be written as ONNX.")

    monkeypatch.setattr(type(view.session), "onnx_file", fail)
    view._made = None
    view._handle_custom_msg({"do": "download", "kind": "onnx", "ticket": 4}, [])
    view.page.wait(lambda: {"download": 4, "problem": "'lenet5' cannot be written as ONNX."} in view.page.messages)


def test_the_file_is_that_of_the_recipe_it_was_begun_for(view: ExportView, session: wb.Session) -> None:
    name, make = view._maker(session, "packed")
    session.apply("- quantize: {bits: 2}")
    assert RECIPE.hash[:8] in name
    assert make() == session.compress(RECIPE).archive.to_bytes()


# Saving on the kernel's machine


def test_saving_names_what_is_wrong_and_leaves_nothing(view: ExportView, tmp_path: Path) -> None:
    (tmp_path / "folder.wbz").mkdir()
    assert "There is no folder" in view.page.save("packed", tmp_path / "nowhere" / "a.wbz")["problem"]
    assert "Type the path" in view.page.save("packed", "  ")["problem"]
    assert "could not be written" in view.page.save("packed", tmp_path / "a\0b")["problem"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder.wbz"]


def test_a_path_without_suffix_gets_the_kinds_own(tmp_path: Path) -> None:
    path, size = write_file(str(tmp_path / "small"), "net-0123.onnx", b"abc")
    assert (path, size) == (tmp_path / "small.onnx", 3)


@pytest.mark.parametrize("kind", ["packed", "onnx"])
def test_a_full_disk_costs_neither_the_old_file_nor_leaves_half_a_new_one(
    view: ExportView, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    old = tmp_path / "model.bin"
    old.write_bytes(b"the old one")
    with monkeypatch.context() as patch:
        patch.setattr("workbench.encodings.files.os.write", full)
        problem = view.page.save(kind, old)["problem"]
    assert "no space left on device" in problem
    assert [path.name for path in tmp_path.iterdir()] == ["model.bin"]
    assert old.read_bytes() == b"the old one"


def test_where_a_file_cannot_be_made_the_page_is_told_and_waits_no_longer(
    view: ExportView, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("widgets.export.runtimes.tempfile.TemporaryDirectory", full)
    view._handle_custom_msg({"do": "make", "format": "onnx", "ticket": 4}, [])
    view.page.wait(lambda: any("problem" in message for message in view.page.messages))
    told = [message["problem"] for message in view.page.messages if message.get("download") == 4]
    assert told == ["The file could not be made: no space left on device."]


def test_the_served_apps_pages_do_not_write_to_the_servers_disk(
    view: ExportView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SERVED, "1")
    assert "download the file" in view.page.save("packed", tmp_path)["problem"]
    assert not list(tmp_path.iterdir())
    other = ExportView()
    assert not other.can_save
    other.close()
