"""The weights view: what travels to the page, for any layer and any recipe, and only when somebody looks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import workbench as wb
from tests.widgets.conftest import wait_until
from tests.widgets.fake_session import FakeSession
from widgets import WeightView
from widgets.weights.mosaic import mosaic
from workbench.measure.weights import MAX_CHANNELS, Overview, summarize_channels, summarize_weights
from workbench.recipe import Recipe
from workbench.techniques.posterior import Posterior

Wire = list[tuple[dict[str, Any], int]]


class Odd(nn.Module):
    """Layers that are hard to draw: constant, tiny, transposed, of one value, wide."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 4, 2, stride=2)
        self.wide = nn.Linear(4, 600)
        self.constant = nn.Linear(600, 10)
        self.tiny = nn.Linear(10, 1)
        self.out = nn.Linear(1, 3)
        nn.init.constant_(self.constant.weight, 0.25)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(torch.relu(self.norm(self.first(x))))
        x = self.up(torch.relu(x)).mean((2, 3))
        found: torch.Tensor = self.out(self.tiny(self.constant(torch.relu(self.wide(x)))))
        return found


@pytest.fixture(scope="module")
def odd() -> Iterator[wb.Session]:
    torch.manual_seed(0)
    images, labels = torch.randn(64, 1, 8, 8), torch.arange(64) % 3
    with wb.Session(Odd(), wb.load_dataset((images, labels)), history=":memory:") as session:
        yield session


@pytest.fixture
def session(odd: wb.Session) -> wb.Session:
    odd.measure("[]")
    return odd


def counts(view: WeightView, name: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(getattr(view, name), np.uint32)


def drawn(view: WeightView, session: wb.Session, recipe: str) -> dict[str, Any]:
    """Return what is told of the selected layer once ``recipe`` is drawn."""
    session.measure(recipe)
    view._drawn = None  # the feed may be drawing this very moment; here it must be finished
    view.draw(session.snapshot)
    about: dict[str, Any] = view.about
    return about


@pytest.mark.parametrize("recipe", ["[]", "- prune: {ratio: 0.5}", "- quantize: {bits: 1}", "- quantize: {bits: 16}"])
def test_every_layer_has_a_histogram_of_all_its_weights(session: wb.Session, recipe: str) -> None:
    session.measure(recipe)
    view = WeightView(session)
    for layer in session.layers:
        view.marks.select(layer.name)
        size = int(np.prod(layer.shape))
        edges = np.frombuffer(view.edges, np.float32)
        assert np.all(np.diff(edges) > 0)
        assert counts(view, "before").sum() == size
        zeros = round(view.about["sparsity"] * size)
        pruned = view.about["threshold"] is not None
        assert counts(view, "after").sum() == size - (zeros if pruned else 0)
        assert not view.error
    view.close()


@pytest.mark.parametrize(
    ("recipe", "bits", "values"), [("[]", 32, 0), ("- quantize: {bits: 1}", 1, 2), ("- quantize: {bits: 16}", 16, 0)]
)
def test_bits_and_grid_are_told_as_they_are_stored(session: wb.Session, recipe: str, bits: int, values: int) -> None:
    view = WeightView(session, compact=True)
    view.marks.select("first")
    assert drawn(view, session, recipe)["bits"] == bits
    assert len(np.frombuffer(view.grid, np.float32)) == values
    view.close()


def test_removed_channels_are_told_and_known_by_their_old_number(session: wb.Session) -> None:
    view = WeightView(session, mode="channels")
    view.marks.select("second")
    about = drawn(
        view, session, "- prune: {granularity: filter, ratio: 0.5, scope: layer, layers: [first], multiple: 1}"
    )
    assert about["removed"] == 0.5
    assert about["channels"] == 16  # its inputs were removed, not its outputs
    assert not np.isnan(np.frombuffer(view.channels_after, np.float32)).any()
    view.marks.select("first")
    before = np.frombuffer(view.channels_before, np.float32).reshape(4, 16)
    after = np.frombuffer(view.channels_after, np.float32).reshape(6, 16)
    kept = ~np.isnan(after[0])
    assert kept.sum() == 8
    assert np.array_equal(after[:4, kept], before[:, kept])
    view.close()


def test_channels_of_a_transposed_convolution_are_its_outputs(session: wb.Session) -> None:
    view = WeightView(session, mode="channels")
    view.marks.select("up")
    assert drawn(view, session, "- quantize: {bits: 4}")["channels"] == 4
    weight = session.model.module.get_parameter("up.weight")
    low = np.frombuffer(view.channels_before, np.float32).reshape(4, 4)[0]
    assert low == pytest.approx(weight.detach().amin((0, 2, 3)).numpy())
    steps = np.frombuffer(view.channels_after, np.float32).reshape(6, 4)[5]
    assert np.all(steps > 0)
    view.close()


def test_many_channels_travel_as_groups_of_neighbours(session: wb.Session) -> None:
    view = WeightView(session, mode="channels")
    view.marks.select("wide")
    about = drawn(view, session, "[]")
    entries = len(np.frombuffer(view.channels_before, np.float32)) // 4
    assert about["channels"] == 600
    assert entries == -(-600 // about["group"]) <= MAX_CHANNELS
    weight = session.model.module.get_parameter("wide.weight").detach()
    assert np.frombuffer(view.channels_before, np.float32)[0] == float(weight[: about["group"]].min())
    view.close()


def test_channels_cost_nothing_until_asked_for(session: wb.Session) -> None:
    view = WeightView(session)
    assert view.channels_before == view.channels_after == b""
    view.mode = "channels"
    assert view.channels_before
    view.mode = "histogram"
    assert view.channels_before == b""
    view.close()


def test_small_histograms_are_left_out_where_there_is_no_room(session: wb.Session, sent: Wire) -> None:
    view = WeightView(session, compact=True)
    drawn(view, session, "- prune: {ratio: 0.3}")
    view.close()
    assert view.overview_after == b""


def test_a_hidden_view_sends_nothing_and_is_up_to_date_when_seen(session: wb.Session, sent: Wire) -> None:
    view = WeightView(session, visible=False)
    sent.clear()
    session.measure("- prune: {ratio: 0.4}")
    view.marks.select("wide")
    assert {name for data, _ in sent for name in data.get("state", {})} <= {"layer"}
    view.visible = True
    assert view.about["layer"] == "wide"
    assert view.about["threshold"] > 0
    assert len(view.overview_after) == len(view.overview_before) > 0
    view.close()


def test_a_move_of_300_layers_sends_little_and_nothing_that_stayed(sent: Wire) -> None:
    deep = nn.Sequential(nn.Flatten(), *(nn.Linear(16, 16) for _ in range(299)), nn.Linear(16, 4))
    data = wb.load_dataset((torch.randn(32, 1, 4, 4), torch.arange(32) % 4))
    with wb.Session(deep, data, history=":memory:") as session:
        session.measure("[]")
        view = WeightView(session)
        wait_until(view, "overview_facts", bool)
        dense = view.overview_facts
        sent.clear()
        drawn(view, session, "- prune: {ratio: 0.6}\n- quantize: {bits: 4}")
        wait_until(view, "overview_facts", lambda facts: facts != dense)
        with view.publishing():  # the message being put together is sent
            pass
        view.close()
    changed = {name for data, _ in sent for name in data.get("state", {})}
    changed |= {path[0] for data, _ in sent for path in data.get("buffer_paths", [])}
    assert {"overview_after", "overview_facts", "after"} <= changed
    assert not {"overview_before", "overview_ceilings", "before", "edges", "layers"} & changed
    assert sum(size for _, size in sent) < 14_000


def test_an_overview_looks_only_at_layers_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {name: [torch.randn(50)] for name in ("a", "b")}
    overview = Overview(weights, bins=8)
    seen: list[str] = []
    after = overview._levels

    def note(layer: str, found: Any) -> Any:
        seen.append(layer)
        return after(layer, found)

    monkeypatch.setattr(overview, "_levels", note)
    assert np.array_equal(overview.after(weights, {"a": 0, "b": 0}, {}), overview.before)
    seen.clear()
    halved = {**weights, "b": [weights["b"][0] * (weights["b"][0].abs() > 0.5)]}
    second = overview.after(halved, {"a": 0, "b": 1}, {"b": 0.5})
    assert seen == ["b"]
    assert np.array_equal(second[0], overview.before[0])
    assert (second[1] <= overview.before[1]).all()
    assert second[1, 4] < overview.before[1, 4]


@pytest.mark.parametrize("value", [0.0, -0.3, float("inf"), float("nan")])
def test_weights_of_one_value_still_have_bins(value: float) -> None:
    weight = torch.full((4, 5), value)
    summary = summarize_weights("fc", [weight], [weight], bins=10)
    assert np.isfinite(summary.edges).all()
    assert np.all(np.diff(summary.edges) > 0)
    if np.isfinite(value):
        assert summary.before.sum() == 20


def test_layers_of_several_tensors_are_counted_whole() -> None:
    summary = summarize_weights(
        "lstm", [torch.ones(4, 2), torch.ones(4, 3)], [torch.zeros(4, 2), torch.ones(4, 3)], 0.5
    )
    assert summary.before.sum() == 20
    assert summary.after.sum() == 12
    assert summary.sparsity == pytest.approx(0.4)


def test_a_channel_that_was_removed_spans_nothing() -> None:
    weight = torch.arange(12.0).reshape(3, 4)
    summary = summarize_channels("fc", weight, weight[[0, 2]], 0, torch.tensor([0, 2]), steps=torch.tensor([0.5]))
    assert np.isnan(summary.after[:, 1]).all()
    assert summary.after[:2, 2].tolist() == [8, 11]
    assert summary.after[5, [0, 2]].tolist() == [0.5, 0.5]


@pytest.fixture
def fake() -> Iterator[FakeSession]:
    session = FakeSession(auto=False)
    yield session
    session.close()


def test_weights_travel_as_typed_arrays_and_only_what_changed_is_sent(fake: FakeSession, sent: list[Any]) -> None:
    view = WeightView(fake, layer="fc", compact=True)
    wait_until(view, "about", bool)
    edges = np.frombuffer(view.edges, np.float32)
    before = np.frombuffer(view.before, np.uint32)
    assert len(edges) == len(before) + 1
    assert before.sum() == 4_000
    sent.clear()
    fake.apply(Recipe.parse("- prune: {ratio: 0.5}\n- quantize: {bits: 3}"))
    fake.step()
    wait_until(view, "about", lambda about: about["bits"] == 3)
    with view.publishing():
        pass
    view.close()
    assert view.about["threshold"] > 0
    assert 1 < len(np.frombuffer(view.grid, np.float32)) <= 8
    changed = {name for data, _ in sent for name in (data.get("state", {}))} | {
        path[0] for data, _ in sent for path in data.get("buffer_paths", [])
    }
    assert "after" in changed
    assert not {"edges", "before"} & changed


def test_choosing_a_layer_on_the_page_draws_it(fake: FakeSession) -> None:
    view = WeightView(fake, compact=True)
    view._handle_custom_msg({"do": "select", "layer": "conv1"}, [])
    wait_until(view, "about", lambda about: about.get("layer") == "conv1")
    view._handle_custom_msg({"do": "select", "layer": "nowhere"}, [])
    wait_until(view, "error", bool)
    assert view.error == "There is no layer 'nowhere'."
    view.close()


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


def test_levels_of_a_codebook_are_sent_rising_and_once(session: wb.Session) -> None:
    levels = np.asarray([0.5, -0.25, 0.5, np.nan, 0.0], np.float32)
    summary = summarize_weights("fc", [torch.ones(3)], [torch.ones(3)], grid=levels)
    assert summary.grid.tolist() == [-0.25, 0.0, 0.5]


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
