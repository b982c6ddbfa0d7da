from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.widgets.conftest import wait_until
from tests.widgets.fake_session import LAYERS, FakeSession, layer
from widgets import LayersView
from widgets.base.marks import marks_of
from widgets.controls.state import BITS
from widgets.layers.view import reached_ratios, read_bits, read_ratio
from workbench.editing import layer_setting, own_setting, with_layer, with_settings
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.session import Session

NAMES = [figures.name for figures in LAYERS]
FC = NAMES.index("fc")
KINDS = {"sparsity": np.float32, "bytes": np.uint32, "ratios": np.float32, "widths": np.uint8, "own": np.uint8}


class Hand:
    """Sends what the page sends, and keeps what it is answered."""

    def __init__(self, view: LayersView, sent: list[Any]) -> None:
        self.view, self.sent, self.seq = view, sent, 0

    def __call__(self, do: str, *layers: int, **content: Any) -> str:
        """Return the problem the kernel answers with, or an empty string."""
        self.seq += 1
        self.sent.clear()
        self.view._handle_custom_msg({"do": do, "layers": list(layers), "seq": self.seq, **content}, [])
        (answer,) = [data["content"] for data, _ in self.sent if data.get("method") == "custom"]
        assert answer["seq"] == self.seq
        return str(answer["problem"])


@pytest.fixture
def session() -> Iterator[FakeSession]:
    session = FakeSession(auto=False, layers=LAYERS)
    yield session
    session.close()


@pytest.fixture
def view(session: FakeSession) -> Iterator[LayersView]:
    view = LayersView(session)
    wait_until(view, "sparsity", bool)
    yield view
    view.close()


@pytest.fixture
def hand(view: LayersView, sent: list[Any]) -> Hand:
    return Hand(view, sent)


def column(view: LayersView, name: str) -> list[float]:
    return np.frombuffer(getattr(view, name), KINDS.get(name, np.float32)).tolist()


def settle(view: LayersView, session: FakeSession) -> None:
    """Emit the next Snapshot and wait until the table shows it."""
    wanted = session.recipe
    assert session.step()
    shown = [layer_setting(wanted, "prune", name) for name in NAMES]
    wait_until(view, "ratios", lambda _: column(view, "ratios") == pytest.approx(shown))


# What is shown


def test_names_and_dense_figures_are_sent_once_and_a_move_sends_only_what_it_changed(
    view: LayersView, session: FakeSession, sent: list[Any]
) -> None:
    assert [row["name"] for row in view.layers] == NAMES
    assert view.layers[FC] == {"name": "fc", "type": "Linear", "shape": [10, 64], "params": 640, "macs": 640 * 49}
    sent.clear()
    session.apply(Recipe.parse("- prune: {ratio: 0.5}"))
    settle(view, session)
    parts = {path[0] for data, _ in sent for path in data.get("buffer_paths", [])}
    assert parts == {"sparsity", "bytes", "ratios"}
    assert not any("layers" in data.get("state", {}) for data, _ in sent)
    assert column(view, "sparsity") == [0.5] * len(NAMES)


def test_a_move_sends_less_than_a_kilobyte_for_22_layers(
    view: LayersView, session: FakeSession, sent: list[Any]
) -> None:
    sent.clear()
    session.apply(Recipe.parse("- prune: {ratio: 0.5}\n- quantize: {bits: 4}"))
    settle(view, session)
    while session.step():
        pass
    assert len(NAMES) == 20
    assert 300 < sum(size for _, size in sent) < 1_000


def test_a_move_sends_less_than_six_kilobytes_for_300_layers(sent: list[Any]) -> None:
    many = tuple(layer(f"blocks.{place}.conv", "Conv2d", 64, 64, 3, 3) for place in range(300))
    session = FakeSession(auto=False, layers=many)
    view = LayersView(session)
    wait_until(view, "sparsity", bool)
    sent.clear()
    session.apply(with_layer(Recipe.parse("- prune: {ratio: 0.5}"), "quantize", [item.name for item in many], 4))
    session.step()
    wait_until(view, "widths", lambda widths: set(widths) == {4})
    view.close()
    session.close()
    assert 3_000 < sum(size for _, size in sent) < 6_000


def test_shares_of_time_are_unknown_for_layers_without_a_kernel_of_their_own(view: LayersView) -> None:
    times = column(view, "times")
    assert np.isnan(times[FC])
    assert 0.9 < sum(times[:FC]) <= 1


def test_a_layer_follows_the_sliders_until_it_has_a_value_of_its_own(view: LayersView, session: FakeSession) -> None:
    session.apply(Recipe.parse("- prune: {ratio: 0.6, overrides: {fc: {ratio: 0.2, scope: layer}}}"))
    settle(view, session)
    assert [column(view, "ratios")[place] for place in (0, FC)] == pytest.approx([0.6, 0.2])
    assert [column(view, "own")[place] for place in (0, FC)] == [0, 1]


def test_where_a_threshold_prunes_there_is_no_ratio_but_a_layers_own(view: LayersView, session: FakeSession) -> None:
    session.apply(with_layer(Recipe.parse("- prune: {threshold: 0.01}"), "prune", ["fc"], 0.2))
    session.step()
    wait_until(view, "ratios", lambda _: np.isnan(column(view, "ratios")[0]))
    assert column(view, "ratios")[FC] == pytest.approx(0.2)


def test_a_recipe_that_fails_keeps_the_figures_and_shows_its_settings(view: LayersView, session: FakeSession) -> None:
    before = view.bytes
    session.recipe = Recipe.parse("- prune: {ratio: 0.7}")
    failed = session._course(session.snapshot.generation + 1, session.recipe)[0]
    session._pending = [type(failed)(failed.generation, failed.recipe, error="No.", settled=True)]
    settle(view, session)
    assert view.bytes == before


def test_sensitivity_is_shown_where_it_is_known(view: LayersView) -> None:
    view.show_sensitivity({"fc": 3.5})
    lost = column(view, "sensitivity")
    assert lost[FC] == 3.5
    assert np.isnan(lost[:FC]).all()


# Selecting and locking


def test_selecting_in_the_table_selects_for_all_views_and_the_table_follows_them(
    view: LayersView, session: FakeSession, hand: Hand
) -> None:
    assert hand("select", 3, 1) == ""
    assert marks_of(session).selected == (NAMES[3], NAMES[1])
    marks_of(session).select("fc")
    assert view.selected == [FC]


def test_places_that_are_no_layers_are_left_out(session: FakeSession, hand: Hand) -> None:
    hand("select", 2, 99, -1)
    assert marks_of(session).selected == (NAMES[2],)


def test_locking_pins_the_present_values_so_that_no_slider_moves_them(
    view: LayersView, session: FakeSession, hand: Hand
) -> None:
    session.apply(Recipe.parse("- prune: {ratio: 0.6, scope: layer}\n- quantize: {bits: 4}"))
    hand("lock", FC)
    assert view.locked == [FC]
    moved = with_settings(with_settings(session.recipe, "prune", {"ratio": 0.1}), "quantize", {"bits": 8})
    assert (layer_setting(moved, "prune", "fc"), layer_setting(moved, "quantize", "fc")) == (0.6, 4)
    assert layer_setting(moved, "prune", "conv1") == 0.1


def test_a_locked_layer_is_changed_by_nothing_and_keeps_its_values_when_unlocked(
    view: LayersView, session: FakeSession, hand: Hand
) -> None:
    hand("set", FC, column="ratio", value=0.3)
    hand("lock", FC)
    locked = session.recipe
    hand("set", FC, 0, column="ratio", value=0.8)
    hand("clear", FC)
    assert own_setting(session.recipe, "prune", "fc") == 0.3
    assert own_setting(session.recipe, "prune", "conv1") == 0.8
    hand("clear", 0)
    assert session.recipe == locked
    hand("unlock", FC)
    assert view.locked == []
    assert session.recipe == locked


def test_locking_under_a_global_ranking_pins_what_was_reached() -> None:
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        recipe = Recipe.parse("- prune: {ratio: 0.6}\n- quantize: {bits: 2}")
        session.apply(recipe)
        reached = reached_ratios(session, recipe, ["fc1", "fc3"])
        plain = {item.name: item.sparsity for item in session._engine.compress(Recipe(recipe.steps[:1])).layers}
        assert reached == {"fc1": pytest.approx(plain["fc1"], abs=0.001), "fc3": pytest.approx(plain["fc3"], abs=0.001)}
        assert abs(reached["fc1"] - reached["fc3"]) > 0.05
        pinned = session._engine.compress(with_layer(recipe, "prune", ["fc3"], reached["fc3"]))
        now = session.compressed
        assert pinned.layers[2].sparsity == pytest.approx(now.layers[2].sparsity, abs=0.002)


def test_locking_under_removed_channels_pins_how_many_are_gone() -> None:
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        recipe = Recipe.parse("- prune: {ratio: 0.5, granularity: filter}")
        session.apply(recipe)
        reached = reached_ratios(session, recipe, ["fc1"])
        kept = session.compressed.layers[0].shape
        assert 0 < reached["fc1"] < 1
        assert session._engine.compress(with_layer(recipe, "prune", ["fc1"], reached["fc1"])).layers[0].shape == kept


# A layer's own values


def test_a_slider_sets_all_the_layers_it_was_moved_for(session: FakeSession, hand: Hand) -> None:
    hand("set", 0, FC, column="ratio", value=0.4)
    hand("set", FC, column="width", value=3)
    own = [
        (own_setting(session.recipe, "prune", name), own_setting(session.recipe, "quantize", name)) for name in NAMES
    ]
    assert own == [(0.4, None), *[(None, None)] * (FC - 1), (0.4, 3)]


def test_clearing_one_value_keeps_the_other(session: FakeSession, hand: Hand) -> None:
    hand("set", FC, column="ratio", value=0.4)
    hand("set", FC, column="width", value=3)
    hand("clear", FC, column="ratio")
    assert own_setting(session.recipe, "prune", "fc") is None
    assert own_setting(session.recipe, "quantize", "fc") == 3
    hand("clear", FC)
    assert session.recipe == Recipe()


def test_done_follows_the_figures_that_include_the_change(view: LayersView, session: FakeSession, hand: Hand) -> None:
    hand("set", FC, column="ratio", value=0.4)
    hand("set", FC, column="ratio", value=0.5)
    assert view.done < hand.seq
    settle(view, session)
    wait_until(view, "done", lambda done: done == hand.seq)


@pytest.mark.parametrize("text", ["abc", "0.6", "101", "-5", ""])
def test_what_is_no_ratio_changes_nothing_and_is_answered_in_one_sentence(
    session: FakeSession, hand: Hand, text: str
) -> None:
    problem = hand("set", FC, column="ratio", value=text)
    assert problem.endswith(".")
    assert session.recipe == Recipe()
    assert not session.applied


def test_a_closed_session_is_said_to_the_hand(
    session: FakeSession, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Recipe) -> int:
        raise WorkbenchError("This session is closed; open a new one.")

    monkeypatch.setattr(session, "apply", refuse)
    assert hand("set", FC, column="ratio", value=0.4) == "This session is closed; open a new one."


# Typed text


@pytest.mark.parametrize(
    ("text", "ratio"),
    [("60", 0.6), ("60 %", 0.6), ("60%", 0.6), (" 12.5 ", 0.125), ("12,5", 0.125), ("0", 0), ("1", 0.01),
     ("0.6 %", 0.006), ("1.2%", 0.012), ("99.9", 0.999), ("2.5", 0.025), (".5 %", 0.005)],
)  # fmt: skip
def test_ratios_are_typed_in_per_cent(text: str, ratio: float) -> None:
    assert read_ratio(text) == ratio


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("0.6", "0.6 could mean 0.6 % or 60 %: type it with %."),
        ("1.2", "1.2 could mean 1.2 % or 120 %: type it with %."),
        ("abc", "“abc” is not a ratio: type a number from 0 to 99, in per cent."),
        ("1e1", "“1e1” is not a ratio: type a number from 0 to 99, in per cent."),
        ("nan", "“nan” is not a ratio: type a number from 0 to 99, in per cent."),
        ("100", "100 is too much: a ratio is from 0 to 99.9 %."),
        ("120 %", "120 % is too much: a ratio is from 0 to 99.9 %."),
        ("x" * 50, "“xxxxxxxxxxxxxxxxxxx…” is not a ratio: type a number from 0 to 99, in per cent."),
    ],
)
def test_what_is_no_ratio_or_could_be_two_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(WorkbenchError) as refused:
        read_ratio(text)
    assert str(refused.value) == sentence


@given(st.integers(0, 9990))
def test_every_ratio_shown_reads_back_as_itself(hundredths: int) -> None:
    assert read_ratio(f"{hundredths / 100:g} %") == pytest.approx(hundredths / 10_000)


@given(st.text(max_size=12))
def test_any_text_is_a_setting_or_one_sentence(text: str) -> None:
    for read, fits in ((read_ratio, lambda ratio: 0 <= ratio < 1), (read_bits, lambda bits: bits in BITS)):
        answer = answer_of(read, text)
        assert answer.count("\n") == 0 and answer.endswith(".") if isinstance(answer, str) else fits(answer)


def answer_of(read: Callable[[str], float], text: str) -> float | str:
    try:
        return read(text)
    except WorkbenchError as refused:
        return str(refused)


@pytest.mark.parametrize(
    ("text", "bits"), [("4", 4), (" 8 bits", 8), ("1 bit", 1), ("16", 16), ("FP16", 16), ("off", 32), ("32", 32)]
)
def test_bits_are_whole_numbers_or_off(text: str, bits: int) -> None:
    assert read_bits(text) == bits


@pytest.mark.parametrize("text", ["9", "0", "4.5", "abc", "-4", "bits", "", "fp8"])
def test_other_bits_are_refused(text: str) -> None:
    with pytest.raises(WorkbenchError, match=r"is not a bit-width: type 1 to 8, 16, or off\.$"):
        read_bits(text)
