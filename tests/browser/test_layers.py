"""The table of layers, used by a hand and by the keyboard."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import open_page
from tests.browser.launch import Served
from tests.browser.reading import read
from tests.widgets.fake_session import FakeSession, layer
from widgets import LayersView
from workbench.recipe import Recipe

RATIO, BITS = "Pruning ratio of {} in per cent", "Bit-width of {}, typed"


@pytest.fixture
def table(page: Page) -> Iterator[Locator]:
    """Return the table as it opens; afterwards nothing is locked, searched, sorted or chosen."""
    page.get_by_role("tab", name="Layers").click()
    table = page.locator(".wb-panel-layers")
    yield table
    table.get_by_role("searchbox").fill("")
    while (sorted_by := table.locator("[aria-sort] button")).count():
        sorted_by.click()
    for shut in table.locator(".wb-lock[aria-pressed=true]").all():
        shut.click()
    expect(table.locator(".wb-lock[aria-pressed=true]")).to_have_count(0)


def wait_sized(page: Page, recipe: Recipe | str) -> None:
    """Wait until the size is that of ``recipe``, which is sooner than its exact accuracy."""
    wanted = Recipe.parse(recipe) if isinstance(recipe, str) else recipe
    page.wait_for_selector(f"[data-metric=size][data-recipe='{wanted.hash}']")


def row(table: Locator, name: str) -> Locator:
    return table.get_by_role("row").filter(has=table.page.get_by_role("rowheader", name=name, exact=True))


def names(table: Locator) -> list[str]:
    return table.get_by_role("rowheader").evaluate_all("heads => heads.map((head) => head.ariaLabel)")


def type_into(table: Locator, field: str, text: str) -> Locator:
    found = table.get_by_label(field, exact=True)
    found.fill(text)
    found.press("Enter")
    return found


def test_a_typed_ratio_is_the_layers_own_and_the_figures_follow(page: Page, table: Locator) -> None:
    dense = read(page, "size").value
    type_into(table, RATIO.format("fc"), "80")
    wait_sized(page, "- prune: {ratio: 0, overrides: {fc: {ratio: 0.8, scope: layer}}}")
    assert read(page, "size").value < dense
    expect(table.get_by_label(RATIO.format("fc"))).to_have_value("80 %")
    expect(row(table, "fc").locator(".wb-col-sparsity")).to_have_text("80.0 %")
    expect(table.get_by_label(RATIO.format("conv1"))).to_have_value("0 %")
    row(table, "fc").get_by_role("button", name="Clear own pruning ratio of fc").click()
    wait_sized(page, Recipe())
    expect(table.get_by_label(RATIO.format("fc"))).to_have_value("0 %")


@pytest.mark.parametrize(
    ("field", "text", "sentence"),
    [
        (RATIO, "1.2", "1.2 could mean 1.2 % or 120 %: type it with %."),
        (RATIO, "abc", "“abc” is not a ratio: type a number from 0 to 99, in per cent."),
        (BITS, "9", "“9” is not a bit-width: type 1 to 8, 16, or off."),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_was_typed_and_stays_there(
    page: Page, table: Locator, field: str, text: str, sentence: str
) -> None:
    typed = type_into(table, field.format("stage1.0.conv1"), text)
    alert = table.locator(".wb-bubble[role=alert]")
    expect(alert).to_have_text(sentence)
    expect(typed).to_have_attribute("aria-invalid", "true")
    expect(typed).to_have_value(text)
    assert typed.get_attribute("aria-describedby") == alert.get_attribute("id")
    below, under = typed.bounding_box(), alert.bounding_box()
    assert below is not None
    assert under is not None
    assert 0 <= under["y"] - below["y"] - below["height"] < 12
    assert read(page, "size").recipe == Recipe().hash
    typed.press("Escape")
    expect(alert).to_be_empty()
    expect(typed).to_have_attribute("aria-invalid", "false")
    expect(typed).not_to_have_value(text)


def test_a_refusal_in_the_last_row_is_in_sight_too(table: Locator) -> None:
    typed = type_into(table, RATIO.format("fc"), "abc")
    expect(table.locator(".wb-bubble")).to_contain_text("is not a ratio")
    alert, frame = table.locator(".wb-bubble").bounding_box(), table.locator(".wb-scroller").bounding_box()
    assert alert is not None
    assert frame is not None
    assert frame["y"] < alert["y"]
    assert alert["y"] + alert["height"] <= frame["y"] + frame["height"]
    typed.press("Escape")


def test_a_slider_moves_every_selected_layer(page: Page, table: Locator) -> None:
    row(table, "conv1").locator(".wb-col-type").click()
    row(table, "stage1.0.conv2").locator(".wb-col-type").click(modifiers=["Shift"])
    expect(table).to_contain_text("3 selected: a change goes to all")
    slider = table.get_by_role("slider", name="Bit-width of stage1.0.conv1")
    slider.fill("3")
    chosen = ("conv1", "stage1.0.conv1", "stage1.0.conv2")
    wait_sized(page, Recipe.parse([{"quantize": {"bits": 32, "overrides": {name: {"bits": 4} for name in chosen}}}]))
    for name in chosen:
        expect(table.get_by_label(BITS.format(name))).to_have_value("4")
    expect(table.get_by_label(BITS.format("stage1.1.conv1"))).to_have_value("off")
    table.get_by_role("button", name="Clear own values").click()
    wait_sized(page, Recipe())


def test_a_locked_layer_stays_while_the_sliders_move_the_others(page: Page, table: Locator) -> None:
    bits = page.get_by_role("slider", name="Bit-width", exact=True)
    bits.fill("4")
    wait_sized(page, "- quantize: {bits: 4}")
    row(table, "conv1").get_by_role("button", name="Lock conv1").click()
    expect(table.get_by_label(BITS.format("conv1"))).to_be_disabled()
    bits.fill("2")
    expect(table.get_by_label(BITS.format("fc"))).to_have_value("2")
    expect(table.get_by_label(BITS.format("conv1"))).to_have_value("4")
    row(table, "conv1").get_by_role("button", name="Lock conv1").click()
    expect(table.get_by_label(BITS.format("conv1"))).to_be_enabled()
    expect(table.get_by_label(BITS.format("conv1"))).to_have_value("4")


def test_the_selected_layer_is_the_same_in_every_view(page: Page, table: Locator) -> None:
    picker = page.locator(".wb-area-weights").get_by_label("Layer", exact=True)
    row(table, "stage1.1.conv1").locator(".wb-col-shape").click()
    expect(picker).to_have_value("stage1.1.conv1")
    picker.select_option("fc")
    expect(row(table, "fc")).to_have_attribute("aria-selected", "true")
    expect(row(table, "fc")).to_be_in_viewport()
    expect(row(table, "stage1.1.conv1")).to_have_attribute("aria-selected", "false")


def test_the_keyboard_does_all_that_the_mouse_does(page: Page, table: Locator) -> None:
    row(table, "conv1").locator(".wb-col-type").click()
    page.keyboard.press("ArrowDown")
    expect(row(table, "stage1.0.conv1")).to_be_focused()
    expect(row(table, "conv1")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    expect(table).to_contain_text("3 selected")
    page.keyboard.press("Enter")
    expect(table.get_by_label(RATIO.format("stage1.1.conv1"))).to_be_focused()
    page.keyboard.type("25")
    page.keyboard.press("ArrowDown")
    expect(table.get_by_label(RATIO.format("stage1.1.conv2"))).to_be_focused()
    for name in ("stage1.0.conv1", "stage1.0.conv2", "stage1.1.conv1"):
        expect(table.get_by_label(RATIO.format(name))).to_have_value("25 %")
    page.keyboard.press("Escape")
    expect(row(table, "stage1.1.conv2")).to_be_focused()


def test_any_column_sorts_and_a_search_says_how_many_it_found(table: Locator) -> None:
    before = names(table)
    params = table.get_by_role("columnheader", name="Params")
    params.get_by_role("button").click()
    expect(params).to_have_attribute("aria-sort", "descending")
    assert names(table)[-1] == "conv1"
    params.get_by_role("button").click()
    expect(params).to_have_attribute("aria-sort", "ascending")
    assert names(table)[0] == "conv1"
    params.get_by_role("button").click()
    assert names(table) == before
    table.get_by_role("searchbox").fill("stage?.0.conv1")
    expect(table).to_contain_text("3 of 22 layers")
    assert names(table) == ["stage1.0.conv1", "stage2.0.conv1", "stage3.0.conv1"]
    table.get_by_role("checkbox", name="Select all layers shown").check()
    expect(table).to_contain_text("3 selected")
    table.get_by_role("searchbox").fill("linear")
    assert names(table) == ["fc"]


def test_the_columns_are_the_persons_choice(page: Page, table: Locator) -> None:
    shown = table.get_by_role("columnheader")
    before = shown.all_inner_texts()
    for column in ("Type", "Shape", "Params", "MACs", "Size", "Time", "Sparsity", "Bytes", "Sensitivity"):
        assert column in before
    table.get_by_role("button", name="Columns").click()
    table.get_by_role("checkbox", name="MACs").uncheck()
    table.get_by_role("checkbox", name="Stored").check()
    expect(table.get_by_role("columnheader", name="MACs")).to_have_count(0)
    expect(row(table, "conv1").locator(".wb-col-bits")).to_have_text("32")
    table.get_by_role("button", name="As many as fit").click()
    expect(table.get_by_role("columnheader", name="MACs")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(table.get_by_role("checkbox", name="MACs")).to_be_hidden()
    assert shown.all_inner_texts() == before


def test_nothing_in_it_moves_while_figures_follow_a_slider(page: Page, table: Locator) -> None:
    measure = "[...document.querySelectorAll('.wb-layers .wb-cell')].map(cell => cell.getBoundingClientRect().toJSON())"
    before = page.evaluate(measure)
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill("77")
    expect(table.get_by_label(RATIO.format("fc"))).to_have_value("77 %")
    page.get_by_role("slider", name="Bit-width", exact=True).fill("3")
    expect(table.get_by_label(BITS.format("fc"))).to_have_value("3")
    assert page.evaluate(measure) == before


def test_new_figures_are_written_into_the_text_that_is_there(page: Page, table: Locator) -> None:
    ratio = page.get_by_role("slider", name="Pruning ratio", exact=True)
    ratio.fill("61")
    expect(table.get_by_label(RATIO.format("fc"))).to_have_value("61 %")
    page.evaluate("""() => {
      window.replaced = 0;
      window.changed = 0;
      const rows = document.querySelector(".wb-layers [role=grid]");
      const count = (records) => {
        for (const { type } of records) if (type === "childList") window.replaced += 1; else window.changed += 1;
      };
      new MutationObserver(count).observe(rows, { subtree: true, childList: true, characterData: true });
    }""")
    ratio.fill("62")
    expect(table.get_by_label(RATIO.format("fc"))).to_have_value("62 %")
    page.wait_for_function("window.changed > 20")
    assert page.evaluate("window.replaced") == 0


@pytest.mark.parametrize("light", ["true", "false"])
def test_axe_finds_nothing_serious(page: Page, table: Locator, light: str) -> None:
    type_into(table, RATIO.format("conv1"), "abc")
    expect(table.locator(".wb-bubble")).not_to_be_empty()
    was = page.evaluate("document.body.dataset.jpThemeLight")
    page.evaluate("light => { document.body.dataset.jpThemeLight = light }", light)
    found = Axe().run(page, context=".wb-panel-layers").response["violations"]
    page.evaluate("light => { document.body.dataset.jpThemeLight = light }", was)
    table.get_by_label(RATIO.format("conv1")).press("Escape")
    serious = [problem for problem in found if problem["impact"] in ("serious", "critical")]
    assert not serious, json.dumps(serious, indent=1)[:3000]


def test_on_a_phone_each_layer_has_its_sliders_and_nothing_overflows(browser: Browser, app: Served) -> None:
    with open_page(browser, app, viewport={"width": 390, "height": 844}, has_touch=True) as page:
        table = page.locator(".wb-panel-layers")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        for control in (table.get_by_role("slider", name="Pruning ratio of conv1"), table.get_by_label("Lock conv1")):
            control.scroll_into_view_if_needed()
            box = control.bounding_box()
            assert box is not None
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390


# Many layers, without a kernel

BARE = """<!doctype html><html lang="en"><title>Layers</title><style>%s</style>
<body data-jp-theme-light="true"><main style="height: 490px; width: 1070px"></main></body>"""
START = """async ([source, state, columns]) => {
  const numbers = (bytes) => new DataView(Uint8Array.from(bytes).buffer);
  const traits = { ...state };
  for (const [name, bytes] of Object.entries(columns)) traits[name] = numbers(bytes);
  const on = {};
  window.model = {
    get: (name) => traits[name], save_changes() {}, send() {},
    set(name, value) { traits[name] = value; for (const call of on[`change:${name}`] || []) call(); },
    on: (name, call) => (on[name] ||= []).push(call), off() {},
  };
  const view = await import(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const began = performance.now();
  view.default.render({ model, el: document.querySelector("main") });
  document.body.getBoundingClientRect();
  return performance.now() - began;
}"""
MOVES = """async (moves) => {
  const spent = [];
  for (let move = 1; move <= moves; move += 1) {
    const began = performance.now();
    const column = (Kind, value) => new DataView(Kind.from({ length: 300 }, (_, index) => value(index)).buffer);
    model.set("sparsity", column(Float32Array, (index) => ((index + 13 * move) % 100) / 100));
    model.set("bytes", column(Uint32Array, (index) => 100 + ((71 * index + 137 * move) % 3000)));
    model.set("ratios", column(Float32Array, () => move / 100));
    await new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
    spent.push(performance.now() - began);
  }
  return spent.sort((a, b) => a - b);
}"""


@pytest.fixture
def bare(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context.new_page()
    context.close()


def state_of(view: LayersView) -> tuple[dict[str, Any], dict[str, list[int]]]:
    state = {name: value for name, value in view.get_state().items() if not name.startswith("_")}
    columns = {name: list(bytes(value)) for name, value in state.items() if isinstance(value, bytes | memoryview)}
    return {name: value for name, value in state.items() if name not in columns}, columns


def test_three_hundred_layers_are_drawn_and_redrawn_without_a_wait(bare: Page) -> None:
    many = tuple(layer(f"blocks.{place}.conv", "Conv2d", 64, 64, 3, 3) for place in range(300))
    session = FakeSession(auto=False, layers=many)
    view = LayersView()
    view.session = session  # type: ignore[assignment]
    view.begin(session)  # type: ignore[arg-type]
    view.draw(session.snapshot)
    bare.set_content(BARE % LayersView._css)
    built = bare.evaluate(START, [LayersView._esm, *state_of(view)])
    moves = bare.evaluate(MOVES, 40)
    session.close()
    assert bare.get_by_role("row").count() == 301
    assert bare.locator(".wb-layers *").count() < 3_000  # rows out of sight are a name
    assert bare.locator(".wb-col-ratio input[type=text]").first.input_value() == "40 %"
    # on an idle machine about 100 ms, and a frame or two; other work may share the processor
    assert built < 3_000
    assert moves[len(moves) // 2] < 150
    bare.get_by_role("grid").press("End")
    bare.get_by_role("row").nth(1).press("End")
    expect(bare.get_by_label(RATIO.format("blocks.299.conv"))).to_have_value("40 %")
