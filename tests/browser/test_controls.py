"""Techniques chosen beside the sliders: only what applies is shown, and what is chosen is the recipe."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.reading import wait_settled
from workbench.recipe import Recipe


def wait_shown(page: Page, recipe: str) -> None:
    page.wait_for_selector(f"[data-metric=size][data-recipe='{Recipe.parse(recipe).hash}']", timeout=60_000)


def test_a_codebook_is_chosen_beside_the_bit_width(page: Page) -> None:
    page.get_by_role("slider", name="Bit-width", exact=True).fill("4")
    wait_shown(page, "- quantize: {bits: 4}")
    page.get_by_role("radio", name="codebook").check(force=True)
    wait_settled(page, "- share: {bits: 4}")
    page.get_by_role("radio", name="grid").check(force=True)
    wait_shown(page, "- quantize: {bits: 4}")


def test_only_the_criteria_that_rank_a_granularity_are_offered(page: Page) -> None:
    criterion = page.get_by_label("Criterion", exact=True)
    options = criterion.locator("option:not([hidden])")
    assert "wanda" in options.all_inner_texts()
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill("50")
    criterion.select_option(label="random")
    wait_shown(page, "- prune: {ratio: 0.5, criterion: random}")
    page.get_by_role("radio", name="channels").check(force=True)
    wait_shown(page, "- prune: {ratio: 0.5, criterion: random, granularity: filter}")
    assert "wanda" not in options.all_inner_texts()
    assert "apoz" in options.all_inner_texts()


def test_an_nm_pattern_has_its_two_numbers_beside_it(page: Page) -> None:
    expect(page.get_by_label("M", exact=True)).to_be_hidden()
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill("50")
    page.get_by_label("What is pruned: others").select_option("n:m")
    wait_shown(page, "- prune: {ratio: 0.5, granularity: 'n:m'}")
    page.get_by_label("M", exact=True).fill("8")
    page.get_by_label("M", exact=True).press("Enter")
    wait_shown(page, "- prune: {ratio: 0.5, granularity: 'n:m', m: 8}")
    expect(page.locator(".wb-controls output").first).to_have_text("2:8")


def test_starting_afresh_lets_go_of_what_was_typed_and_refused(page: Page) -> None:
    page.get_by_text("Advanced", exact=True).click()
    field = page.get_by_label("Threshold", exact=True)
    before = field.input_value()
    field.fill("abc")
    field.press("Enter")
    refusal = page.locator(".wb-controls .wb-invalid")
    expect(refusal).to_contain_text("“abc” does not fit")
    page.get_by_role("slider", name="Bit-width", exact=True).fill("4")
    wait_shown(page, "- quantize: {bits: 4}")
    expect(field).to_have_value("abc")  # it waits to be mended
    page.get_by_role("button", name="Reset", exact=True).click()
    wait_shown(page, "[]")
    expect(refusal).to_have_count(0)
    expect(field).to_have_value(before)
    expect(field).to_have_attribute("aria-invalid", "false")
    page.get_by_text("Advanced", exact=True).click()


def test_what_is_refused_is_said_right_below_its_control(page: Page) -> None:
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill("50")
    page.get_by_label("What is pruned: others").select_option("n:m")
    kept, of = page.get_by_label("N", exact=True), page.get_by_label("M", exact=True)
    kept.fill("6")
    kept.press("Enter")
    problem = page.locator(".wb-controls .wb-problem")
    expect(problem).to_contain_text("n must be less than m, not 6:4")
    assert kept.bounding_box()["y"] < problem.bounding_box()["y"] < of.bounding_box()["y"]
    page.get_by_role("slider", name="Bit-width", exact=True).fill("4")
    wait_shown(page, "- prune: {ratio: 0.5, granularity: 'n:m'}\n- quantize: {bits: 4}")
    expect(problem).to_contain_text("not 6:4")
    of.fill("63")
    of.press("Enter")
    expect(problem).to_contain_text("6:63 pruning needs input channels that 63 divides")
    assert of.bounding_box()["y"] < problem.bounding_box()["y"]
    expect(page.locator("[data-metric=size] .wb-kind")).to_have_text("previous")


def test_a_setting_without_an_upper_bound_takes_what_is_typed(page: Page) -> None:
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill("50")
    wait_shown(page, "- prune: {ratio: 0.5}")
    page.get_by_text("Advanced", exact=True).click()
    threshold = page.get_by_label("Threshold", exact=True)
    threshold.fill("0.02")
    threshold.press("Enter")
    wait_shown(page, "- prune: {ratio: 0.5, threshold: 0.02}")
    threshold.fill("-1")
    threshold.press("Enter")
    expect(page.get_by_text("“-1” does not fit: type a number from 0.")).to_be_visible()
    threshold.fill("")
    threshold.press("Enter")
    wait_shown(page, "- prune: {ratio: 0.5}")
    page.get_by_text("Advanced", exact=True).click()


def test_a_bad_order_of_steps_is_told_with_its_reason(page: Page) -> None:
    page.get_by_role("tab", name="Recipe").click()
    editor = page.get_by_label("Recipe in YAML")
    editor.fill("- quantize: {bits: 4}\n- prune: {ratio: 0.5}")
    editor.press("Control+Enter")
    remarks = page.get_by_role("list", name="Remarks on the steps")
    expect(remarks).to_contain_text("put prune before quantize")
    page.get_by_role("tab", name="Layers").click()
    page.get_by_role("button", name="Reset").click()
    expect(remarks).to_be_hidden()


def test_any_technique_is_added_as_a_further_step_and_taken_away(page: Page) -> None:
    page.get_by_role("slider", name="Bit-width", exact=True).fill("3")
    wait_shown(page, "- quantize: {bits: 3}")
    add = page.get_by_label("Add a technique")
    added = page.locator(".wb-controls [data-technique]")
    add.focus()
    page.keyboard.press("ArrowDown")  # walks through the list, and adds nothing yet
    page.wait_for_timeout(300)
    expect(added).to_have_count(0)
    add.select_option("correct_bias")
    expect(added).to_have_count(1, timeout=60_000)
    wait_settled(page, "- quantize: {bits: 3}\n- correct_bias: {}")
    expect(add).to_be_focused()
    step = page.get_by_role("group", name="Correct bias")
    expect(step.get_by_role("link")).to_have_attribute("href", "https://arxiv.org/abs/1906.04721")
    step.get_by_role("button", name="Take Correct bias away").click()
    wait_shown(page, "- quantize: {bits: 3}")
    expect(step).to_be_hidden()
