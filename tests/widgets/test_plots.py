"""Figures for papers: of every view that shows data, in every format, without touching the person's settings."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from tests.widgets.fake_session import FakeSession
from widgets import ControlsView, ScoreboardView, WeightView, Workbench
from widgets.base import picture, plots
from widgets.weights.figure import plot_histogram
from workbench.errors import WorkbenchError
from workbench.measure.estimate import Estimate
from workbench.measure.weights import summarize_weights
from workbench.recipe import Recipe

RECIPE = "- prune: {ratio: 0.6}\n- quantize: {bits: 4}"


@pytest.fixture
def settled(session: FakeSession) -> FakeSession:
    session.apply(Recipe.parse(RECIPE))
    while session.step():
        pass
    return session


@pytest.fixture
def scores(settled: FakeSession) -> Iterator[ScoreboardView]:
    view = ScoreboardView(settled)
    yield view
    view.close()


def words(figure: Any) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def described(png: bytes) -> str:
    """Return what a PNG's metadata say it is of."""
    return str(Image.open(io.BytesIO(png)).info["Description"])


def test_headline_figures_are_drawn_with_interval_baseline_and_kind(scores: ScoreboardView) -> None:
    shown = words(scores.figure())
    for part in ("Accuracy", "Size", "Latency", "exact, 10,000 test images", "× smaller", "predicted, 0.90 to 1.00 ms"):
        assert part in shown


def test_a_sampled_accuracy_is_drawn_with_its_interval(session: FakeSession) -> None:
    session.step()
    view = ScoreboardView(session)
    figure = view.figure()
    found = session.snapshot.accuracy
    assert isinstance(found, Estimate)
    assert "points at 95 % confidence" in words(figure)
    spans = [tuple(line.get_xdata()) for line in figure.axes[0].lines]
    assert (found.low, found.high) in spans
    view.close()


def test_histogram_has_both_distributions_threshold_and_grid(settled: FakeSession) -> None:
    view = WeightView(settled, layer="fc", compact=True)
    (axes,) = view.figure().axes
    assert len(axes.containers) == 2
    assert axes.get_yscale() == "log"
    view.log = False
    assert view.figure().axes[0].get_yscale() == "linear"
    shown = words(view.figure())
    for part in ("before", "after, zeros left out", "threshold ±", "quantizer values", "weights in the bin"):
        assert part in shown
    view.close()


def test_a_codebook_is_told_from_a_quantizers_grid() -> None:
    weight = torch.linspace(-1, 1, 101)
    levels = np.asarray([-0.9, -0.2, 0.0, 0.3], np.float32)
    figure = plots.new_figure()
    plot_histogram(figure, summarize_weights("fc", [weight], [weight], grid=levels))
    assert "4 codebook values" in words(figure)
    (ticks,) = (line for line in figure.axes[0].lines if len(line.get_xdata()) == 4)
    assert np.array_equal(ticks.get_xdata(), levels)


def test_the_whole_workbench_is_one_figure_that_names_model_data_and_recipe(settled: FakeSession) -> None:
    page = Workbench(settled)  # type: ignore[arg-type]
    shown = words(page.figure())
    page.close()
    for part in ("resnet20 on fashion_mnist", "prune: {ratio: 0.6}, quantize: {bits: 4}", "Accuracy", "before"):
        assert part in shown


def test_every_view_that_shows_data_has_a_figure(settled: FakeSession) -> None:
    page = Workbench(settled)  # type: ignore[arg-type]
    assert [name for name, view in page.panels.items() if not view._has_figure()] == ["recipe", "export"]
    page.close()


def test_figures_are_saved_by_suffix_with_text_as_text(scores: ScoreboardView, tmp_path: Path) -> None:
    assert scores.save(tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    assert "<text" in scores.save(tmp_path / "a.svg").read_text()
    pdf = scores.save(str(tmp_path / "A.PDF")).read_bytes()
    assert pdf[:5] == b"%PDF-"
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert scores.save(tmp_path / "a.eps").read_bytes()[:4] == b"%!PS"


def test_a_saved_figure_says_what_it_is_of(scores: ScoreboardView, tmp_path: Path) -> None:
    about = 'resnet20 on fashion_mnist: [{"prune":{"ratio":0.6}},{"quantize":{"bits":4}}]'
    said = described(scores.save(tmp_path / "a.png").read_bytes())
    assert said.replace(" ", "") == about.replace(" ", "")
    assert "fashion_mnist" in scores.save(tmp_path / "a.svg").read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a.gif", "A figure is saved as .png, .svg, .pdf, .eps; 'a.gif' ends in none of them."),
        ("a", "'a' ends in none of them."),
        ("nowhere/a.png", "There is no folder"),
    ],
)
def test_what_cannot_be_saved_is_said_in_a_sentence(
    scores: ScoreboardView, tmp_path: Path, name: str, said: str
) -> None:
    with pytest.raises(WorkbenchError) as problem:
        scores.save(tmp_path / name)
    assert said in str(problem.value)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_said(scores: ScoreboardView, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path, _data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(WorkbenchError, match=r"The disk is full: 'a\.png' was not saved\."):
        scores.save(tmp_path / "a.png")


def test_without_matplotlib_the_way_to_install_it_is_said(
    scores: ScoreboardView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plots, "find_spec", lambda _: None)
    with pytest.raises(WorkbenchError, match=r"pip install .*\[analysis\]"):
        scores.figure()


def test_views_without_data_say_that_they_have_no_figure(settled: FakeSession) -> None:
    view = ControlsView(settled)
    with pytest.raises(WorkbenchError, match="ControlsView has no figure"):
        view.figure()
    view.close()
    with pytest.raises(WorkbenchError, match="no model is loaded"):
        ScoreboardView().figure()


def test_at_the_end_of_a_cell_a_figure_is_its_picture(scores: ScoreboardView) -> None:
    from IPython.core.formatters import PNGFormatter

    png, metadata = PNGFormatter()(scores.figure())
    assert png[:4] == b"\x89PNG"
    assert metadata == {"width": 720}


def test_drawing_leaves_the_persons_settings_alone(scores: ScoreboardView, tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    scores.save(tmp_path / "a.pdf")
    assert dict(matplotlib.rcParams) == before


def test_views_are_imported_without_matplotlib() -> None:
    code = "import sys, widgets.page.workbench; sys.exit('matplotlib' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


# The picture in a saved notebook


class Notebook:
    """Stands for the kernel's display publisher: keeps what would have gone into the cell's output."""

    def __init__(self) -> None:
        self.shown: list[dict[str, Any]] = []
        self.updates: list[tuple[str, bytes]] = []
        self.arrived = threading.Condition()

    def display(self, data: dict[str, Any], **_: Any) -> None:
        self.shown.append(data)

    def update(self, data: dict[str, Any], display_id: str, **_: Any) -> None:
        with self.arrived:
            self.updates.append((display_id, data["image/png"]))
            self.arrived.notify_all()

    def wait(self, holds: Callable[[], bool]) -> None:
        with self.arrived:
            assert self.arrived.wait_for(holds, 30)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Notebook:
    found = Notebook()
    monkeypatch.setattr("IPython.display.display", found.display)
    monkeypatch.setattr("IPython.display.update_display", found.update)
    monkeypatch.setattr(picture, "_in_notebook", lambda: True)
    monkeypatch.setattr(picture, "STILL", 0.05)
    return found


def recipe_of(png: bytes) -> str:
    return described(png).partition(": ")[2].replace(" ", "")


def test_the_picture_follows_settled_settings_only(session: FakeSession, notebook: Notebook) -> None:
    view = ScoreboardView(session)
    view._ipython_display_()
    live, style, place = notebook.shown
    assert "application/vnd.jupyter.widget-view+json" in live
    assert "wb-picture-style" in style["text/html"]
    assert place == {"text/plain": ""}
    session.step()
    assert view._picture is not None
    view._picture._wait()  # due, and put off: the figures are not exact yet
    assert not notebook.updates
    while session.step():
        pass
    view._picture.touch()
    notebook.wait(lambda: len(notebook.updates) == 1)
    session.apply(Recipe.parse(RECIPE))
    while session.step():
        pass
    notebook.wait(lambda: recipe_of(notebook.updates[-1][1]) == Recipe.parse(RECIPE).to_json().replace(" ", ""))
    view.close()
    assert len({identity for identity, _ in notebook.updates}) == 1


def test_what_did_not_change_is_not_drawn_into_the_notebook_again(settled: FakeSession, notebook: Notebook) -> None:
    view = ScoreboardView(settled)
    view._ipython_display_()
    notebook.wait(lambda: bool(notebook.updates))
    shown = view._picture
    assert shown is not None
    shown._update()
    view.close()
    assert len(notebook.updates) == 1


def test_shown_a_second_time_the_last_picture_is_there_at_once(settled: FakeSession, notebook: Notebook) -> None:
    view = ScoreboardView(settled)
    view._ipython_display_()
    notebook.wait(lambda: bool(notebook.updates))
    view._ipython_display_()
    view.close()
    assert notebook.shown[-1]["image/png"] == notebook.updates[-1][1]


def test_a_view_without_a_figure_shows_only_itself(settled: FakeSession, notebook: Notebook) -> None:
    view = ControlsView(settled)
    view._ipython_display_()
    view.close()
    assert len(notebook.shown) == 1


@pytest.mark.parametrize("name", picture.SERVED)
def test_only_a_kernel_that_serves_no_app_makes_pictures(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in picture.SERVED:
        monkeypatch.delenv(other, raising=False)
    assert not picture._in_notebook()
    monkeypatch.setattr("IPython.get_ipython", lambda: SimpleNamespace(kernel=object()))
    assert picture._in_notebook()
    monkeypatch.setenv(name, "1")
    assert not picture._in_notebook()
