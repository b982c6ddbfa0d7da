"""What else than histograms the weights view shows: spectra, filters as pictures, posteriors, figures to keep."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import workbench as wb
from tests.widgets.conftest import wait_until
from widgets import WeightView
from widgets.weights.mosaic import mosaic
from workbench.techniques.posterior import Posterior

Wire = list[tuple[dict[str, Any], int]]


NARROW = "- prune: {granularity: filter, ratio: 0.5, scope: layer, layers: [first], multiple: 1}"


def spectrum(view: WeightView, name: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(getattr(view, f"spectrum_{name}"), np.float32)


def test_singular_values_are_those_of_the_weights_before_and_after(session: wb.Session) -> None:
    session.measure("- quantize: {bits: 2}")
    view = WeightView(session, mode="spectrum")
    view.marks.select("second")
    wait_until(view, "spectrum_after", lambda found: len(found) == 4 * 16)
    module = session.model.module
    for name, weight in (
        ("before", module.get_parameter("second.weight")),
        ("after", session.compressed.tensors["second.weight"]),
    ):
        expected = np.linalg.svd(weight.detach().flatten(1).numpy(), compute_uv=False)
        assert spectrum(view, name) == pytest.approx(expected, abs=1e-5 * float(expected[0]))
    assert view.rank == 16
    view.close()


def test_the_rank_falls_with_removed_channels(session: wb.Session) -> None:
    session.measure(NARROW)
    view = WeightView(session, mode="spectrum")
    view.marks.select("first")
    wait_until(view, "rank", lambda rank: rank == 8)
    assert len(spectrum(view, "before")) == 9  # its matrix is 16 × 9
    assert spectrum(view, "after")[8:].tolist() == [0]
    view.close()


def test_spectra_and_pictures_cost_nothing_until_asked_for(session: wb.Session) -> None:
    view = WeightView(session)
    assert view.spectrum_after == view.pictures_after == b""
    view.mode = "filters"
    assert view.pictures_after
    view.mode = "spectrum"
    wait_until(view, "spectrum_after", bool)
    assert view.pictures_after == b""
    view.mode = "histogram"
    assert view.spectrum_after == view.pictures_after == b""
    view.close()


def test_removed_filters_are_absent_in_the_pictures(session: wb.Session) -> None:
    session.measure(NARROW)
    view = WeightView(session, mode="filters")
    view.marks.select("first")
    after = np.frombuffer(view.pictures_after, np.int8).reshape(view.pictured["shape"])
    assert view.pictured["kind"] == "kernels"
    assert int((after == -128).all((1, 2, 3)).sum()) == 8
    view.close()


def test_pages_are_turned_and_another_layer_begins_with_its_first(session: wb.Session) -> None:
    view = WeightView(session, mode="filters")
    view.marks.select("wide")
    assert view.pictured["pages"] > 1
    first = view.pictures_before
    view.page = 1
    assert view.pictured["output"] > 0
    assert view.pictures_before != first
    view.marks.select("second")
    assert view.page == view.pictured["page"] == 0
    assert len(view.pictures_before) == 16 * 16 * 9
    view.close()


def test_close_up_the_groups_of_an_n_of_m_pattern_are_marked_and_hold_n(session: wb.Session) -> None:
    session.measure('- prune: {granularity: "n:m", n: 2, m: 4, layers: [second]}')
    view = WeightView(session, mode="filters", close_up=True)
    view.marks.select("second")
    assert view.pictured["kept"] == (2, 4)
    groups = np.frombuffer(view.pictures_after, np.int8).reshape(-1, 4)
    assert np.all((groups != 0).sum(1) == 2)
    view.marks.select("wide")
    assert view.pictured["kept"] is None
    view.close()


@pytest.mark.parametrize("mode", ["spectrum", "filters"])
def test_a_move_sends_at_most_12_kB_and_nothing_of_before(mode: str, sent: Wire) -> None:
    with wb.Session("resnet20", "fashion_mnist", history=":memory:") as session:
        view = WeightView(session, mode=mode)
        view.marks.select("stage3.1.conv1")
        trait = {"spectrum": "spectrum_after", "filters": "pictures_after"}[mode]
        dense = wait_until(view, trait, bool)
        wait_until(view, "overview_facts", bool)
        with view.publishing():
            pass
        sent.clear()
        session.apply("- prune: {ratio: 0.7}")
        wait_until(view, trait, lambda found: found != dense)
        with view.publishing():
            pass
        view.close()
    changed = {path[0] for data, _ in sent for path in data.get("buffer_paths", [])}
    assert trait in changed
    assert not {"spectrum_before", "pictures_before", "before", "edges"} & changed
    assert sum(size for _, size in sent) <= 12_000


def test_of_the_spectra_asked_for_while_one_is_computed_only_the_newest_is(
    session: wb.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, seen = threading.Event(), threading.Event(), []

    def slowly(weight: torch.Tensor) -> np.ndarray[Any, Any]:
        seen.append(tuple(weight.shape))
        begun.set()
        assert go.wait(30)
        return np.ones(min(weight.flatten(1).shape), np.float32)

    monkeypatch.setattr("workbench.measure.spectrum.singular_values", slowly)
    view = WeightView(session)
    view.marks.select("first")
    view.mode = "spectrum"
    assert begun.wait(30)
    for layer in ("wide", "constant", "second"):
        view.marks.select(layer)
    assert view.spectrum_after == b""  # another layer's is never shown
    go.set()
    wait_until(view, "spectrum_after", lambda found: len(found) == 4 * 16)
    view.close()
    assert {(600, 4), (10, 600)}.isdisjoint(seen)


def test_of_a_layer_that_cannot_be_drawn_nothing_stands_there_of_another(session: wb.Session) -> None:
    view = WeightView(session, mode="channels")
    view.marks.select(session.layers[0].name)
    assert view.about["layer"] == session.layers[0].name
    assert view.channels_before
    with pytest.raises(wb.WorkbenchError):
        session.measure("- prune: {layers: [nowhere]}")
    view.marks.select(session.layers[1].name)
    assert "nowhere" in view.error
    assert (view.about, view.channels_before, view.edges, view.pictured) == ({}, b"", b"", {})
    session.measure("[]")
    assert wait_until(view, "about", bool)["layer"] == session.layers[1].name
    assert view.error == ""
    view.close()


def test_what_has_no_spectrum_says_so(session: wb.Session) -> None:
    wide = nn.Sequential(nn.Flatten(), nn.Linear(16, 2100), nn.Linear(2100, 2100), nn.Linear(2100, 4))
    data = wb.load_dataset((torch.randn(16, 1, 4, 4), torch.arange(16) % 4))
    with wb.Session(wide, data, history=":memory:") as large:
        view = WeightView(large, mode="spectrum")
        view.marks.select("2")
        assert "takes too long to decompose" in wait_until(view, "error", bool)
        view.marks.select("1")
        wait_until(view, "error", lambda error: not error)
        view.close()


@pytest.mark.parametrize("mode", ["channels", "spectrum", "filters"])
def test_every_mode_has_a_figure(session: wb.Session, mode: str) -> None:
    session.measure(NARROW)
    view = WeightView(session, mode=mode)
    for layer in session.layers:
        view.marks.select(layer.name)
        assert view.figure().axes[0].get_title(loc="left").startswith(layer.name)
    view.close()


def test_the_figure_of_pictures_has_every_weight_at_its_place() -> None:
    codes = np.arange(-60, 60, dtype=np.int8).reshape(5, 2, 4, 3)
    sheet = mosaic(codes, "kernels", strips=2)
    alone = mosaic(codes[3:4, 1:2], "kernels")
    strip = 2 * 4 - 1
    assert np.array_equal(sheet[5:9, strip + 3 + 4 : strip + 3 + 7], alone)
    assert (sheet[4] == 255).all()


def test_a_posterior_is_offered_where_training_found_one(session: wb.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    view = WeightView(session, mode="posterior")
    view.marks.select("wide")
    assert "No distribution is known of the weights of 'wide'" in wait_until(view, "error", bool)
    assert not view.about.get("posterior")
    weight = session.compressed.tensors["wide.weight"]
    variance = torch.linspace(0.01, 1, weight.numel()).view(weight.shape)
    found = {"wide.weight": Posterior(weight, variance)}
    monkeypatch.setattr(session.compressed, "posteriors", found)
    view.mode = "histogram"
    view.mode = "posterior"
    shown = np.frombuffer(wait_until(view, "posterior", bool)).reshape(4, -1)
    assert view.about["posterior"]
    assert view.error == ""
    places = shown[0].astype(int)
    np.testing.assert_allclose(shown[1], weight.flatten()[places].numpy())
    np.testing.assert_allclose(shown[2], variance.flatten()[places].sqrt().numpy(), rtol=1e-6)
    signal = np.abs(shown[1]) / shown[2]
    assert (np.diff(signal) >= 0).all()
    every = (weight.abs() / variance.sqrt()).flatten()
    assert signal[[0, -1]] == pytest.approx([float(every.min()), float(every.max())], rel=1e-5)
    assert view.figure().axes[0].get_title(loc="left").startswith("wide")
    view.mode = "histogram"
    assert wait_until(view, "posterior", lambda data: not data) == b""
    view.close()
