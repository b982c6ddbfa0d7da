"""A picker on a small model and few images, and what it handed on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import workbench as wb
from widgets import PickerView
from widgets.picker.upload import FOLDERS

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
