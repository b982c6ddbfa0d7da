from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from tests.widgets.conftest import move, wait_until
from tests.widgets.fake_session import FakeSession
from widgets import ControlsView, ScoreboardView
from widgets.base.marks import MOVES, marks_of
from widgets.controls.presets import PRESETS
from widgets.controls.state import ControlsState, controls_from_recipe, edited
from widgets.controls.view import _reached
from workbench.compression import compress
from workbench.editing import own_setting, with_layer
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.snapshot import Snapshot


def test_a_slider_move_sets_the_sessions_recipe(session: FakeSession) -> None:
    view = ControlsView(session)
    move(view, ratio=60)
    move(view, bits=4)
    view.close()
    assert session.recipe == Recipe.parse("- prune: {ratio: 0.6}\n- quantize: {bits: 4}")
    assert len(session.applied) == 2


def test_each_size_says_which_move_had_been_heard_of(session: FakeSession) -> None:
    view, board = ControlsView(session), ScoreboardView(session)
    for number, ratio in enumerate((10, 20, 30), 1):
        move(view, ratio=ratio)
        session.step()
        size = wait_until(board, "size", lambda size, wanted=session.recipe.hash: size and size["recipe"] == wanted)
        assert size["move"] == number
    session.apply(Recipe())  # set elsewhere: after that move
    session.step()
    assert wait_until(board, "size", lambda size: size["recipe"] == Recipe().hash)["move"] == 3
    view.close()
    board.close()


def test_of_as_many_moves_as_are_kept_each_generation_has_its_own(session: FakeSession) -> None:
    marks = marks_of(session)
    begun = [marks.change(session, lambda recipe: recipe, move=number) for number in range(1, MOVES + 11)]
    assert [marks.move_of(generation) for generation in begun[-MOVES:]] == list(range(11, MOVES + 11))
    assert marks.move_of(begun[0] - 1) == 0
    assert marks.move_of(begun[-1] + 5) == MOVES + 10


def test_a_slider_under_a_hand_is_never_moved(session: FakeSession) -> None:
    view = ControlsView(session)
    witness = ScoreboardView(session)  # drawn after the controls, by the same thread
    wait_until(view, "follow", bool)
    follows = []
    view.observe(lambda change: follows.append(change["new"]), "follow")
    for ratio in range(10, 60, 10):
        move(view, ratio=ratio)
        session.step()
    wait_until(witness, "progress", lambda progress: progress.get("recipe") == session.recipe.hash)
    view.close()
    witness.close()
    assert not follows


def test_controls_follow_a_recipe_set_elsewhere(session: FakeSession) -> None:
    view = ControlsView(session)
    move(view, ratio=80)
    session.apply(Recipe.parse("- prune: {ratio: 0.3}\n- recalibrate: {}"))
    session.step()
    wait_until(view, "follow", lambda follow: follow.get("ratio") == 30)
    assert view.follow["recalibrate"]
    assert view.note == ""
    session.apply(Recipe.parse("- prune: {ratio: 0.3, layers: [fc]}"))
    session.step()
    wait_until(view, "note", lambda note: "it is kept" in note)
    view.close()


def test_only_what_is_gone_is_called_removed_and_what_rounding_made_zero_is_called_zero() -> None:
    def words(text: str) -> str:
        recipe = Recipe.parse(text)
        return _reached(Snapshot(0, recipe, layers=compress("lenet300", recipe).layers), 266_610)

    assert words("[]") == ""
    assert words("- prune: {ratio: 0.6}") == "60.0 % of weights are zero."
    assert re.fullmatch(r"\d\d\.\d % of weights are zero\.", words("- quantize: {bits: 2}"))
    assert re.fullmatch(r"\d\d\.\d % of weights removed\.", words("- prune: {ratio: 0.5, granularity: filter}"))
    both = words("- prune: {ratio: 0.5, granularity: filter}\n- prune: {ratio: 0.5}")
    assert re.fullmatch(r"\d\d\.\d % of weights removed, 50\.0 % of the rest are zero\.", both)


def test_a_refused_recipe_is_said_in_place_and_cleared_by_the_next(
    session: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = ControlsView(session)

    def refuse(_: Recipe) -> int:
        raise WorkbenchError("This session is closed; open a new one.")

    with monkeypatch.context() as patch:
        patch.setattr(session, "apply", refuse)
        move(view, ratio=10)
    assert (view.error, view.blamed) == ("This session is closed; open a new one.", "ratio")
    move(view, ratio=20)
    assert (view.error, view.blamed) == ("", "")
    view.close()


def test_a_refused_setting_is_told_beside_its_control_and_holds_up_no_other(session: FakeSession) -> None:
    view = ControlsView(session)
    move(view, ratio=40, granularity="n:m")
    kept: list[str] = []

    def also(control: str, **changes: Any) -> None:
        """Do what a page does that was not told to follow: it names all that was touched since."""
        kept.append(control)
        seq = view.state["seq"] + 1
        view.set_state({"state": {**view.state, **changes, "touched": kept, "seq": seq}})

    also("advanced.prune.n", advanced={"prune": {"n": 6}})
    assert "n must be less than m, not 6:4" in view.error
    assert view.blamed == "advanced.prune.n"
    also("bits", bits=4)
    assert [step.technique for step in session.recipe.steps] == ["prune", "quantize"]
    assert view.blamed == "advanced.prune.n"
    also("advanced.prune.m", advanced={"prune": {"n": 6, "m": 8}})
    view.close()
    assert (view.error, view.blamed) == ("", "")
    assert session.recipe.to_data()[0] == {"prune": {"ratio": 0.4, "granularity": "n:m", "n": 6, "m": 8}}


def test_what_cannot_be_carried_out_is_told_beside_the_control_moved_last(session: FakeSession) -> None:
    view = ControlsView(session)
    view._handle_custom_msg({"do": "add", "technique": "factorize"}, [])
    session.step()
    session.fail("Rank 500 is above the full rank.")
    assert wait_until(view, "error", bool) == "Rank 500 is above the full rank."
    assert view.blamed == "step.factorize"
    move(view, bits=4)
    session.step()
    wait_until(view, "error", lambda error: not error)
    session.fail("The same, by another step.")
    wait_until(view, "error", bool)
    assert view.blamed == "bits"
    move(view, ratio=5)
    session.fail("The same, by another step.")
    assert view.blamed == "bits"  # this move changed nothing about it
    session.apply(Recipe.parse("- prune: {ratio: 0.3}"))
    session.step()
    wait_until(view, "error", lambda error: not error)
    view.close()


def start(view: ControlsView, preset: str) -> None:
    view._handle_custom_msg({"do": "start", "preset": preset}, [])


@pytest.mark.parametrize("preset", PRESETS, ids=lambda preset: preset.name)
def test_a_preset_sets_its_recipe_and_the_controls_follow(session: FakeSession, preset: Any) -> None:
    view = ControlsView(session)
    move(view, ratio=20)
    start(view, preset.name)
    assert session.recipe == preset.recipe(batchnorm=True)
    session.step()
    settings = {step.technique: step.settings for step in session.recipe.steps}
    stored = settings.get("quantize") or settings.get("share")
    wait_until(view, "follow", lambda follow: follow.get("bits") == (stored.bits if stored else 32))
    start(view, "")
    view.close()
    assert session.recipe == Recipe()


def test_a_technique_is_added_with_its_defaults_changed_and_taken_away(session: FakeSession) -> None:
    view = ControlsView(session)
    move(view, ratio=60)
    view._handle_custom_msg({"do": "add", "technique": "equalize"}, [])
    assert [step.technique for step in session.recipe.steps] == ["equalize", "prune"]
    session.step()
    wait_until(view, "steps", lambda steps: steps == ["equalize"])
    view._handle_custom_msg({"do": "add", "technique": "no such"}, [])
    view._handle_custom_msg({"do": "remove", "technique": "equalize"}, [])
    view.close()
    assert session.recipe == Recipe.parse("- prune: {ratio: 0.6}")


def test_a_codebook_takes_the_place_of_the_grid(session: FakeSession) -> None:
    view = ControlsView(session)
    move(view, bits=4)
    move(view, method="share")
    assert session.recipe == Recipe.parse("- share: {bits: 4}")
    move(view, activations=True)
    assert session.recipe == Recipe.parse("- quantize: {bits: 32, activations: {bits: 8}}\n- share: {bits: 4}")
    move(view, method="quantize", activations=False)
    view.close()
    assert session.recipe == Recipe.parse("- quantize: {bits: 4}")


def test_a_criterion_that_another_granularity_has_not_goes_back_to_the_default(session: FakeSession) -> None:
    view = ControlsView(session)
    move(view, ratio=50)
    session.apply(Recipe.parse("- prune: {ratio: 0.5, criterion: wanda}"))
    session.step()
    wait_until(view, "follow", lambda follow: follow.get("advanced", {}).get("prune") == {"criterion": "wanda"})
    move(view, granularity="head")
    view.close()
    assert session.recipe == Recipe.parse("- prune: {ratio: 0.5, granularity: head}")


def test_presets_repair_only_what_has_batchnorm() -> None:
    half = next(preset for preset in PRESETS if preset.name == "Half the channels")
    assert [step.technique for step in half.recipe(True).steps] == ["prune", "recalibrate"]
    assert [step.technique for step in half.recipe(False).steps] == ["prune"]


def test_locked_layers_keep_their_settings_through_presets_and_reset(session: FakeSession) -> None:
    view = ControlsView(session)
    session.apply(with_layer(with_layer(Recipe(), "prune", ["fc"], 0.2), "prune", ["conv1"], 0.9))
    marks_of(session).lock(["fc"])
    start(view, "8 bit")
    assert own_setting(session.recipe, "prune", "fc") == 0.2
    assert own_setting(session.recipe, "prune", "conv1") is None
    assert "quantize" in [step.technique for step in session.recipe.steps]
    start(view, "")
    view.close()
    assert own_setting(session.recipe, "prune", "fc") == 0.2
    assert [step.technique for step in session.recipe.steps] == ["prune"]


def test_a_setting_out_of_range_is_one_sentence_and_changes_nothing(session: FakeSession) -> None:
    view = ControlsView(session)
    move(view, ratio=40)
    before = session.recipe
    advanced = {"prune": {"multiple": 9000}}
    seq = view.state["seq"] + 1
    view.set_state({"state": {**view.state, "advanced": advanced, "touched": ["advanced.prune.multiple"], "seq": seq}})
    view.close()
    assert "multiple is 9000" in view.error
    assert session.recipe == before


def test_reset_puts_back_what_the_dense_recipe_leaves_open(session: FakeSession) -> None:
    view = ControlsView(session)
    move(view, ratio=40, granularity="filter")
    start(view, "")
    session.step()
    wait_until(view, "follow", lambda follow: follow.get("ratio") == 0 and follow.get("granularity") == "weight")
    view.close()


def test_what_reset_put_back_stays_so_when_a_technique_is_added(session: FakeSession) -> None:
    view = ControlsView(session)
    move(view, ratio=40, granularity="n:m", advanced={"prune": {"m": 8}})
    start(view, "")
    session.step()
    wait_until(view, "follow", lambda follow: follow.get("granularity") == "weight")
    view._handle_custom_msg({"do": "add", "technique": "factorize"}, [])
    session.step()
    wait_until(view, "steps", lambda steps: steps == ["factorize"])
    view.close()
    assert (view.follow["granularity"], view.follow["advanced"].get("prune")) == ("weight", None)


def test_leaving_obs_leaves_the_scope_that_it_brought():
    recipe = Recipe.parse("- prune: {ratio: 0.5, criterion: obs}")
    state = replace(controls_from_recipe(recipe), advanced={"prune": {"criterion": "magnitude"}})
    left = edited(recipe, state, ["advanced.prune.criterion"])
    assert left.to_data() == [{"prune": {"ratio": 0.5}}]


def touch(*moves: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the recipe after moves of controls, one after another: dotted names are advanced settings."""
    recipe, state = Recipe(), ControlsState()
    for move_ in moves:
        advanced = {technique: dict(settings) for technique, settings in state.advanced.items()}
        for name, value in move_.items():
            technique, _, setting = name.partition(".")
            if setting:
                advanced.setdefault(technique, {})[setting] = value
        own = {name: value for name, value in move_.items() if "." not in name}
        state = replace(state, advanced=advanced, **own)
        recipe = edited(recipe, state, [name if name in own else f"advanced.{name}" for name in move_])
        state = controls_from_recipe(recipe, state)
    return recipe.to_data()


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([{"bits": 4}, {"quantize.rounding": "gptq"}, {"quantize.format": "kmeans"}],
         {"quantize": {"bits": 4, "format": "kmeans"}}),
        ([{"bits": 4}, {"quantize.range": "mse"}, {"bits": 16}], {"quantize": {"bits": 16}}),
        ([{"bits": 4}, {"quantize.per": "group"}, {"quantize.format": "fixed"}],
         {"quantize": {"bits": 4, "format": "fixed"}}),
        ([{"bits": 4}, {"quantize.format": "binary"}], {"quantize": {"bits": 1, "format": "binary"}}),
        ([{"bits": 4}, {"quantize.format": "nf"}, {"bits": 3}], {"quantize": {"bits": 3, "format": "nf"}}),
        ([{"bits": 4}, {"quantize.format": "nf"}, {"bits": 1}], {"quantize": {"bits": 1}}),
        ([{"bits": 4, "method": "share"}, {"share.entries": 24}], {"share": {"entries": 24}}),
        ([{"bits": 4, "method": "share"}, {"share.entries": 24}, {"bits": 3}], {"share": {"bits": 3}}),
        ([{"bits": 4, "method": "share"}, {"share.method": "hash"}, {"share.buckets": 0.5}],
         {"share": {"method": "hash", "buckets": 0.5}}),
        ([{"ratio": 40}, {"prune.threshold": 0.1}], {"prune": {"threshold": 0.1}}),
        ([{"ratio": 40}, {"prune.threshold": 0.1}, {"prune.macs": 0.5}], {"prune": {"macs": 0.5}}),
        ([{"ratio": 40}, {"prune.threshold": 0.1}, {"ratio": 60}], {"prune": {"ratio": 0.6}}),
        ([{"ratio": 40}, {"prune.threshold": 0.1}, {"prune.criterion": "obs"}],
         {"prune": {"criterion": "obs", "scope": "layer"}}),
        ([{"ratio": 40}, {"prune.scope": "row"}, {"granularity": "filter"}],
         {"prune": {"granularity": "filter", "ratio": 0.4}}),
        ([{"ratio": 40, "granularity": "n:m"}, {"prune.n": 4, "prune.m": 8}],
         {"prune": {"granularity": "n:m", "ratio": 0.4, "n": 4, "m": 8}}),
        ([{"activations": True}, {"quantize.activations.observer": "mse"}, {"quantize.activations.mode": "dynamic"}],
         {"quantize": {"bits": 8, "activations": {"bits": 8, "observer": "minmax", "percentile": 99.99,
                                                  "mode": "dynamic"}}}),
    ],
)  # fmt: skip
def test_what_a_moved_control_rules_out_goes_back_to_its_default(
    moves: list[dict[str, Any]], expected: dict[str, Any]
) -> None:
    assert touch(*moves) == [expected]


def test_the_page_is_told_what_was_put_back(session: FakeSession) -> None:
    view = ControlsView(session)
    wait_until(view, "follow", bool)
    move(view, ratio=40)
    view.state = {
        **view.state, "advanced": {"prune": {"threshold": 0.1, "macs": 0.5}},
        "touched": ["advanced.prune.threshold", "advanced.prune.macs"], "seq": 7,
    }  # fmt: skip
    view.close()
    assert session.recipe == Recipe.parse("- prune: {macs: 0.5}")
    assert view.follow["advanced"]["prune"] == {"macs": 0.5}
    assert (view.follow["ratio"], view.follow["seq"]) == (40, 7)
