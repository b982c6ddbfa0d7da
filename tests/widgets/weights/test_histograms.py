"""The weights view: what travels to the page, for any layer and any recipe, and only when somebody looks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import workbench as wb
from tests.widgets.conftest import wait_until
from tests.widgets.fake_session import FakeSession
from tests.widgets.weights.conftest import counts, drawn
from widgets import WeightView
from workbench.measure.weights import MAX_CHANNELS, Overview, summarize_channels, summarize_weights
from workbench.recipe import Recipe

Wire = list[tuple[dict[str, Any], int]]


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
    ("recipe", "grids"),
    [
        ("[]", 1), ("- quantize: {bits: 4}", 16), ("- quantize: {bits: 4, per: tensor}", 1),
        ("- quantize: {format: nf, bits: 4}", 16), ("- share: {bits: 3}", 1),
    ],
)  # fmt: skip
def test_a_grid_that_is_one_of_several_is_told_as_that(session: wb.Session, recipe: str, grids: int) -> None:
    view = WeightView(session, compact=True)
    view.marks.select("first")
    assert drawn(view, session, recipe)["grids"] == grids
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
    wait_until(view, "about", lambda about: about.get("layer") == "wide")
    assert view.about["threshold"] > 0
    wait_until(view, "overview_after", bool)
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


def test_levels_of_a_codebook_are_sent_rising_and_once(session: wb.Session) -> None:
    levels = np.asarray([0.5, -0.25, 0.5, np.nan, 0.0], np.float32)
    summary = summarize_weights("fc", [torch.ones(3)], [torch.ones(3)], grid=levels)
    assert summary.grid.tolist() == [-0.25, 0.0, 0.5]
