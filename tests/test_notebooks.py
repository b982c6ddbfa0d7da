"""The notebooks run from top to bottom, and are committed without outputs."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

import workbench as wb

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if "02" <= path.stem[:2] <= "11"]
TRAINING = [path for path in LESSONS if path.stem[:2] in ("07", "08", "09")]
#: Images that the lessons on training are tried with in the default run, and the cells that are: all of them take
#: minutes.
FEW = {"train": 60, "calibration": 30, "validation": 20, "test": 20}
QUICK = ("open", "guess", "truth", "try", "answer", "check")
#: Those that take more than half a minute.
SLOW = ("02", "03", "05", "07", "08", "09", "10", "11")


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(path: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> Any:
    """Return the notebook with its outputs, run with the cells ``more`` in a kernel that imports this checkout."""
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.extend(nbformat.v4.new_code_cell(text, id=f"more-{place}") for place, text in enumerate(more))
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    return notebook


def text_of(cell: Any) -> str:
    return "".join(output.get("text", "") for output in cell.outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_without_outputs(path: Path) -> None:
    for cell in code_cells(nbformat.read(path, as_version=4)):
        assert not cell.outputs
        assert cell.execution_count is None


def test_a_first_look_compresses_a_model_of_ones_own_in_ten_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = {cell.id: cell for cell in code_cells(run(ROOT / "notebooks" / "01_first_look.ipynb", monkeypatch))}
    assert len(cells) == 10
    figures = text_of(cells["recipe"])
    size, accuracy = (part.split()[1] for part in (figures.splitlines()[1], figures.splitlines()[0]))
    assert text_of(cells["save"]) == f"{size} bytes, accuracy {accuracy}\n"  # the file is what was measured
    assert float(accuracy.rstrip("%")) > 75
    assert "points lost at" in text_of(cells["sensitivity"])
    assert "image/png" in cells["tradeoff"].outputs[0].data
    for name in ("view", "workbench"):
        assert "application/vnd.jupyter.widget-view+json" in cells[name].outputs[0].data


def test_the_apps_notebook_shows_the_workbench(monkeypatch: pytest.MonkeyPatch) -> None:
    (cell,) = code_cells(run(ROOT / "notebooks" / "app.ipynb", monkeypatch))
    assert "application/vnd.jupyter.widget-view+json" in cell.outputs[0].data


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] if path.stem[:2] in SLOW else [], id=path.stem) for path in LESSONS],
)
def test_a_lesson_runs_and_its_exercise_tells_a_solution_from_what_stands_there(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (solution,) = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.id == "solution"]
    answer = re.search(r"`([-(] ?.+?)`", solution, re.DOTALL)  # a recipe, or a tuple of arguments
    assert answer is not None
    arguments = f"*{answer[1]}" if answer[1].startswith("(") else repr(answer[1])
    notebook = run(path, monkeypatch, f"print(check({arguments}))")
    cells = {cell.id: cell for cell in code_cells(notebook)}
    assert "Not yet" in text_of(cells["check"])
    assert "Solved" in text_of(cells["more-0"])
    assert "application/vnd.jupyter.widget-view+json" in cells["try"].outputs[0].data


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_a_lesson_on_training_begins_and_checks_on_a_few_images(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = wb.load_dataset("fashion_mnist")
    few = {name: data[name].take(torch.arange(count)) for name, count in FEW.items()}
    monkeypatch.setattr(wb, "load_dataset", lambda _: replace(data, splits=few))
    names: dict[str, Any] = {}
    for cell in code_cells(nbformat.read(path, as_version=4)):
        if cell.id in QUICK:
            exec(compile(cell.source, f"{path.name}, {cell.id}", "exec"), names)
    assert "Not yet" in names["check"](names["answer"])
    names["session"].close()
