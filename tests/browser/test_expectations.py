"""What a page expects of a move before its kernel answers, alone: the script in an empty page without a kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from widgets.base.view import script

#: A model as anywidget gives it to a view, which the kernel sets by ``tell``, and the controls' event.
STAND_IN = """
const listeners = {};
const traits = { context: { session: "one" }, size: null, accuracy: null };
const model = {
  get: (name) => traits[name],
  on: (event, hear) => { (listeners[event] ??= []).push(hear); },
  off: (event, hear) => { listeners[event] = listeners[event].filter((other) => other !== hear); },
};
window.tell = (told) => { // sets all, then says what changed, as Backbone does
  Object.assign(traits, told);
  for (const name of Object.keys(told)) for (const hear of listeners[`change:${name}`] ?? []) hear();
};
window.move = (session, figures, move = 1) => {
  window.dispatchEvent(new CustomEvent("workbench-moved", { detail: { session, figures, move } }));
};
window.ahead = expectations(model, ["size", "accuracy"], () => {});
"""


@pytest.fixture
def empty(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    page.add_script_tag(content=f"{{\n{script('scoreboard/ahead.js')}\n{STAND_IN}\n}}")
    yield page
    page.close()


def accuracy(value: float, kind: str, recipe: str) -> dict[str, Any]:
    return {"value": value, "kind": kind, "recipe": recipe}


def foreseen(recipe: str) -> dict[str, Any]:
    return {"recipe": recipe, "size": {"bytes": 1}, "accuracy": {"value": 0.5, "kind": "sampled"}}


def expected(page: Page) -> Any:
    return page.evaluate("[ahead.of('accuracy').kind, ahead.of('accuracy').value]")


def test_the_accuracy_of_every_image_is_shown_again_where_it_is_known(empty: Page) -> None:
    empty.evaluate("told => tell(told)", {"size": {"bytes": 9}, "accuracy": accuracy(0.9, "exact", "half")})
    empty.evaluate("told => tell(told)", {"accuracy": accuracy(0.8, "exact", "less")})
    empty.evaluate("figures => move('one', figures)", foreseen("half"))
    assert expected(empty) == ["exact", 0.9]


def test_what_another_model_reached_with_the_same_recipe_is_not_shown_of_this_one(empty: Page) -> None:
    empty.evaluate("told => tell(told)", {"size": {"bytes": 9}, "accuracy": accuracy(0.9, "exact", "half")})
    empty.evaluate("told => tell(told)", {"context": {"session": "two"}, "size": None, "accuracy": None})
    empty.evaluate("told => tell(told)", {"size": {"bytes": 7}, "accuracy": accuracy(0.4, "exact", "none")})
    empty.evaluate("figures => move('two', figures)", foreseen("half"))
    assert expected(empty) == ["sampled", 0.5]


def moved(page: Page, number: int, recipe: str | None) -> None:
    """Make a move of this number, with its figures foreseen where ``recipe`` is given."""
    page.evaluate("([figures, move]) => window.move('one', figures, move)", [recipe and foreseen(recipe), number])


def told(page: Page, number: int, recipe: str) -> None:
    """Have the kernel tell a size, when it has heard of so many moves."""
    page.evaluate("told => tell(told)", {"size": {"bytes": 9, "recipe": recipe, "move": number}})


def shown(page: Page) -> list[Any]:
    """Return the recipe whose size is shown, and whether it is what the last move comes to."""
    found: list[Any] = page.evaluate("[ahead.of('size').recipe, ahead.has('size')]")
    return found


def test_a_move_of_which_nothing_was_foreseen_goes_back_to_no_move_before_the_one_that_is_shown(empty: Page) -> None:
    told(empty, 0, "dense")
    moved(empty, 1, None)
    moved(empty, 2, "second")
    assert shown(empty) == ["second", True]
    moved(empty, 3, None)
    assert shown(empty) == ["second", False]
    told(empty, 1, "first")  # the kernel is behind, and of a recipe that the page does not know
    assert shown(empty) == ["second", False]
    told(empty, 3, "third")
    assert shown(empty) == ["third", False]


def test_what_the_kernel_tells_of_a_move_before_is_not_shown_after_what_was_foreseen(empty: Page) -> None:
    told(empty, 0, "dense")
    moved(empty, 1, None)
    moved(empty, 2, "second")
    told(empty, 1, "first")
    assert shown(empty) == ["second", True]
    told(empty, 2, "undone elsewhere meanwhile")
    assert shown(empty) == ["undone elsewhere meanwhile", False]
