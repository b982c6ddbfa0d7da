"""The Deploy tab: its parts, the slider over the cuts, a watched rehearsal, devices, fusions."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.reading import wait_settled

SECONDS = 60_000


def open_part(page: Page, name: str) -> None:
    page.get_by_role("tab", name="Deploy").click()
    page.get_by_role("tab", name=name, exact=True).click()


def test_the_slider_over_the_cuts_tells_what_each_costs_and_where_the_quickest_is(page: Page) -> None:
    open_part(page, "Split")
    panel = page.locator(".wb-study.wb-split")
    panel.get_by_role("button", name="Measure the cuts").click()
    expect(panel.locator(".wb-cut")).to_have_count(13, timeout=SECONDS)
    slider = panel.get_by_role("slider", name="Cut")
    slider.focus()
    page.keyboard.press("Home")
    expect(panel.locator(".wb-where")).to_contain_text("Everything on the server")
    page.keyboard.press("ArrowRight")
    expect(panel.locator(".wb-where")).to_contain_text("Cut behind")
    sent = panel.locator(".wb-is-network dd").first
    before = sent.inner_text()
    page.keyboard.press("End")
    expect(panel.locator(".wb-where")).to_contain_text("nothing is sent")
    expect(sent).not_to_have_text(before)
    panel.get_by_label("Network").select_option("ble")
    expect(panel.locator(".wb-note").last).to_contain_text("Bluetooth LE")


def test_a_rehearsal_is_watched_and_stops_with_the_tab_out_of_sight(page: Page) -> None:
    open_part(page, "Monitor")
    panel = page.locator(".wb-monitor")
    panel.get_by_role("button", name="Start").click()
    expect(panel.locator(".wb-verdict")).to_contain_text("predictions", timeout=SECONDS)
    expect(panel.locator(".wb-verdict")).to_contain_text("last window", timeout=SECONDS)
    expect(panel.locator(".wb-table tbody tr")).to_have_count(6)
    panel.get_by_role("button", name="Stop").click()
    expect(panel.get_by_role("status")).to_have_text("Stopped")


def test_devices_show_ratios_for_the_setting_and_take_a_measurement(page: Page) -> None:
    open_part(page, "Devices")
    page.get_by_label("Pruning ratio", exact=True).fill("60")
    wait_settled(page, "- prune: {ratio: 0.6}")
    panel = page.locator(".wb-devices")
    expect(panel.locator(".wb-head")).to_contain_text("60 % pruned", timeout=SECONDS)
    expect(panel.locator("tbody tr").first).to_contain_text("Masked weights gain nothing")
    panel.get_by_label("on", exact=True).select_option("raspberry-pi-4")
    panel.get_by_label("Milliseconds of an image").fill("20")
    panel.get_by_role("button", name="Add measurement").click()
    expect(panel.get_by_role("list", name="Your measurements")).to_contain_text("20 ms", timeout=SECONDS)
    panel.get_by_role("button", name=re.compile("Forget 20 ms")).click()
    expect(panel.get_by_role("list", name="Your measurements")).not_to_contain_text("20 ms")


def test_fusions_are_shown_as_both_graphs(page: Page) -> None:
    open_part(page, "Fusion")
    panel = page.locator(".wb-fusion")
    panel.get_by_role("button", name="Show the fusions").click()
    expect(panel.locator("rect.wb-kernel")).not_to_have_count(0, timeout=SECONDS)
    expect(panel.locator(".wb-table")).to_contain_text("Conv + BatchNormalization + Relu")
    assert panel.locator("rect.wb-op").count() > panel.locator("rect.wb-kernel").count()
