"""Models that are made on the page: fine-tuned on other classes, or designed and taught."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.widgets.picker.conftest import Opened
from workbench.train.jobs.process import Within

QUANTIZED = "- quantize: {bits: 4}"


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
