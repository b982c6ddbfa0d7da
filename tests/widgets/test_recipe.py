"""The editor follows the sliders until someone types; no text a person typed is ever lost."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest

from tests.widgets.conftest import wait_until
from tests.widgets.fake_session import FakeSession
from widgets import RecipeView
from widgets.recipe.view import MAX_CHARACTERS, describe_techniques, python_of
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.techniques import TECHNIQUES


def type_in(view: RecipeView, text: str, seq: int = 1) -> dict[str, Any]:
    """Do what the page does when typing pauses; return what the check says."""
    view.set_state({"draft": {"text": text, "edited": True, "seq": seq}})
    return wait_until(view, "checked", lambda checked: checked["seq"] == seq)


def apply(view: RecipeView, text: str, seq: int = 2) -> str:
    view._handle_custom_msg({"do": "apply", "text": text, "seq": seq}, [])
    return str(wait_until(view, "checked", lambda checked: checked["seq"] == seq)["problem"])


def test_the_editor_follows_a_recipe_set_elsewhere(session: FakeSession) -> None:
    view = RecipeView(session)
    wait_until(view, "python", bool)
    assert view.yaml == ""
    session.apply(Recipe.parse("- prune: {ratio: 0.6}\n- quantize: {bits: 4}"))
    session.step()
    wait_until(view, "yaml", lambda text: Recipe.parse(text) == session.recipe)
    view.close()


def test_typed_text_is_checked_and_changes_nothing_until_it_is_applied(session: FakeSession) -> None:
    view = RecipeView(session)
    assert type_in(view, "- quantize: {bits: 3}")["problem"] == ""
    assert session.applied == []
    assert apply(view, "- quantize: {bits: 3}") == ""
    assert session.recipe == Recipe.parse("- quantize: {bits: 3}")
    assert view.applied == 2
    assert not view.draft["edited"]
    view.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- prune: {ratio: 1.2}", "ratio is 1.2"),
        ("- prune: {ratio: abc}", "ratio is 'abc'"),
        ("- prune: {ratio: 0.5", "not valid YAML at line 1"),
        ("- distil: {}", "no technique 'distil'"),
        ("prune", "begin each step with '- '"),
        ("- quantize: {bits: 4, layers: [nosuch]}", "'nosuch' matches no layer"),
        ("- prune: {overrides: {'fc9': {ratio: 0.1}}}", "'fc9' matches no layer"),
        ("- {prune: {}, quantize: {}}", "one technique"),
        ("[" * 5_000, "recipe"),
        ("- prune: {? [a] : 1}", "unhashable key"),
        ("#" * (MAX_CHARACTERS + 1), "characters at most"),
    ],
)
def test_a_bad_recipe_is_one_sentence_in_place_and_its_text_stays(session: FakeSession, text: str, said: str) -> None:
    view = RecipeView(session)
    problem = type_in(view, text)["problem"]
    assert said in problem
    assert "Traceback" not in problem
    assert apply(view, text) == problem
    assert session.applied == []
    assert view.draft == {"text": text, "edited": True, "seq": 2}
    view.close()


def test_a_text_that_is_refused_before_typing_pauses_is_kept_and_makes_room_for_one_from_elsewhere(
    session: FakeSession,
) -> None:
    view = RecipeView(session)
    assert "no technique" in apply(view, "- distil: {}", seq=13)
    assert view.draft == {"text": "- distil: {}", "edited": True, "seq": 13}
    view.keep("- crush: {}\n")
    assert view.draft["seq"] == 14  # a page shows no draft that is older than its own
    view.close()


def test_a_recipe_is_checked_again_when_another_model_comes(session: FakeSession) -> None:
    view = RecipeView(session)
    assert type_in(view, "- quantize: {bits: 4, layers: ['stage1.*']}")["problem"] == ""
    other = FakeSession(auto=False)
    other.layers = other.layers[-1:]
    view.attach(other)
    assert "matches no layer" in view.checked["problem"]
    assert view.draft["text"].startswith("- quantize")
    view.close()
    other.close()


def test_the_python_is_of_the_model_that_is_shown(session: FakeSession) -> None:
    view = RecipeView(session)
    wait_until(view, "python", bool)
    other = FakeSession(auto=False)
    other.model.name = "lenet5"
    view.attach(other)
    wait_until(view, "python", lambda text: "load_model('lenet5')" in text)
    view.close()
    other.close()


def test_what_is_applied_before_there_is_a_session_is_its_recipe_then(session: FakeSession) -> None:
    view = RecipeView()
    view._handle_custom_msg({"do": "apply", "text": "- quantize: {bits: 3}", "seq": 2}, [])
    view.attach(session)
    assert session.recipe == Recipe.parse("- quantize: {bits: 3}")
    assert view.applied == 2
    assert view.checked == {"seq": 2, "problem": ""}
    view.close()


def test_text_from_elsewhere_is_kept_before_there_is_a_session(session: FakeSession) -> None:
    view = RecipeView()
    view.keep("- distil: {}\n")
    assert view.draft["edited"]
    view.attach(session)
    assert "no technique 'distil'" in view.checked["problem"]
    view.close()


def test_a_recipe_that_cannot_be_carried_out_says_why(live: FakeSession) -> None:
    view = RecipeView(live)
    wait_until(view, "python", bool)
    live.fail("Calibration needs data, and this dataset has none.")
    wait_until(view, "failure", bool)
    assert view.failure == "Calibration needs data, and this dataset has none."
    view.close()


def test_a_move_sends_the_text_once(session: FakeSession, sent: list[Any]) -> None:
    view = RecipeView(session)
    wait_until(view, "python", bool)
    sent.clear()
    session.apply(Recipe.parse("- prune: {ratio: 0.6}"))
    while session.step():
        pass
    wait_until(view, "yaml", bool)
    view.close()
    assert sum("yaml" in data.get("state", {}) for data, _ in sent) == 1
    assert sum(size for _, size in sent) < 2_000


def test_every_technique_and_each_of_its_settings_is_described() -> None:
    described = {entry["name"]: entry for entry in describe_techniques()}
    assert list(described) == list(TECHNIQUES)
    for entry in described.values():
        assert entry["summary"]
        assert entry["source"]
        for setting in entry["settings"]:
            assert setting["help"], (entry["name"], setting["name"])
            assert setting["allowed"], (entry["name"], setting["name"])
        for example in entry["examples"]:
            Recipe.parse(example)


def test_the_python_does_what_the_page_shows(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import workbench as wb

    monkeypatch.chdir(tmp_path)
    recipe = Recipe.parse("- prune: {ratio: 0.6, overrides: {fc*: {ratio: 0.2}}}\n- quantize: {bits: 4}")
    data = wb.load_dataset("fashion_mnist")
    code = python_of(load_model("lenet300"), data, recipe.to_yaml())
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "page.py", "exec"), {})
    saved = wb.load_compressed(tmp_path / "lenet300.wbz")
    assert saved.recipe == recipe
    assert f"{saved.nbytes:,} bytes" in printed.getvalue()
    assert "of 10,000 images" in printed.getvalue()


def test_the_python_of_an_empty_recipe_parses_too() -> None:
    import workbench as wb

    code = python_of(load_model("lenet300"), wb.load_dataset("fashion_mnist"), "")
    assert 'wb.Recipe.parse("[]")' in code
    compile(code, "page.py", "exec")
