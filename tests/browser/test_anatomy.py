"""The model as a graph, linked with the table of layers, and the selected layer in depth."""

from __future__ import annotations

from playwright.sync_api import Page, expect

from tests.browser.reading import wait_settled

NODE = ".wb-anatomy .wb-node"


def test_a_layer_selected_in_the_graph_is_selected_in_the_table_and_told_in_depth(page: Page) -> None:
    page.get_by_role("slider", name="Pruning ratio", exact=True).fill("60")
    wait_settled(page, "- prune: {ratio: 0.6}")
    page.get_by_role("tab", name="Architecture").click()
    expect(page.locator(NODE)).to_have_count(22, timeout=60_000)
    expect(page.locator(".wb-anatomy .wb-skip")).not_to_have_count(0)
    page.locator(f"{NODE}[data-layer='stage2.0.conv1'] rect").click()
    expect(page.locator(".wb-depth h3")).to_have_text("stage2.0.conv1")
    expect(page.locator(".wb-depth-facts")).to_contain_text("Effective rank")
    page.locator(".wb-graph-scroll").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".wb-depth h3")).to_have_text("stage2.0.conv2")
    page.get_by_label("Colour").select_option("bits")
    expect(page.locator(".wb-anatomy .wb-head")).to_contain_text("32 bit")
    page.get_by_role("tab", name="Layers").click()
    expect(page.locator(".wb-layers [role=row][aria-selected=true]")).to_contain_text("stage2.0.conv2")


def test_the_profile_says_in_words_what_dominates_and_its_suggestion_is_applied(page: Page) -> None:
    page.get_by_role("tab", name="Architecture").click()
    page.get_by_role("button", name="Profile", exact=True).click()
    panel = page.get_by_role("region", name="Profile of the uncompressed model")
    expect(panel).to_contain_text("an image takes in ONNX Runtime", timeout=60_000)
    expect(panel.locator(".wb-spot")).to_have_count(22)
    panel.get_by_role("button", name="Apply: half of the channels").click()
    wait_settled(page, "- prune: {granularity: filter, scope: layer, ratio: 0.5}\n- recalibrate: {}")
    page.get_by_role("button", name="Back to the model").click()
    expect(panel).to_be_hidden()
