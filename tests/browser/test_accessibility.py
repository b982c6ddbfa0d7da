"""axe-core on every view, in both themes; and what axe cannot see: the keyboard, focus and reduced motion."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.browser.conftest import open_page
from tests.browser.launch import Served
from tests.browser.reading import wait_settled

TABS = ("Layers", "Sensitivity", "Trade-off", "Examples", "Weights", "Recipe", "Deploy")
#: Those of the last one, of which only the panel is looked at anew.
PARTS = ("Devices", "Split", "Pipeline", "Fusion", "Monitor")


def findings(page: Page, within: str | None = None) -> list[str]:
    """Return axe's serious and critical findings, each with the first element it concerns."""
    found = Axe().run(page, within, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{rule['impact']} {rule['id']}: {rule['nodes'][0]['html'][:160]} ({rule['nodes'][0]['failureSummary'][:200]})"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


def use_theme(page: Page, theme: str) -> None:
    if page.evaluate("window.workbenchTheme.dark()") != (theme == "dark"):
        page.get_by_role("button", name="Switch between light and dark").click()
    page.wait_for_function("dark => window.workbenchTheme.dark() === dark", arg=theme == "dark")


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_axe_finds_nothing_serious_in_any_view(page: Page, theme: str) -> None:
    use_theme(page, theme)
    page.get_by_label("Pruning ratio", exact=True).fill("60")
    page.get_by_label("Bit-width", exact=True).fill("4")
    wait_settled(page, "- prune: {ratio: 0.6}\n- quantize: {bits: 4}")
    page.get_by_text("Advanced", exact=True).click()
    for tab in TABS:
        page.get_by_role("tab", name=tab, exact=True).click()
        assert findings(page) == [], tab
    for part in PARTS:
        page.get_by_role("tab", name=part, exact=True).click()
        assert findings(page, ".wb-panel-deploy") == [], part
    page.get_by_text("Advanced", exact=True).click()
    page.get_by_role("tab", name="Layers", exact=True).click()
    use_theme(page, "light")


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.slow), "dark"])
def test_axe_finds_nothing_serious_on_a_phone(browser: Browser, app: Served, scheme: str) -> None:
    viewport = {"width": 390, "height": 844}
    with open_page(browser, app, viewport=viewport, has_touch=True, color_scheme=scheme) as page:
        assert findings(page) == []


def test_tabs_follow_the_arrow_keys(page: Page) -> None:
    page.get_by_role("tab", name="Layers", exact=True).focus()
    second = page.get_by_role("tab").nth(1)
    page.keyboard.press("ArrowRight")
    assert second.get_attribute("aria-selected") == "true"
    assert page.evaluate("document.activeElement.textContent") == second.text_content()
    page.keyboard.press("End")
    assert page.get_by_role("tab", name="Deploy").get_attribute("aria-selected") == "true"
    page.keyboard.press("Home")
    assert page.get_by_role("tabpanel", name="Layers").is_visible()


def test_every_stop_of_the_tab_key_has_a_visible_focus_and_a_name(page: Page) -> None:
    """Walk the page with the Tab key: each stop shows where it is and can be told by a screen reader."""
    page.mouse.click(2, 2)
    stops: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
              const node = document.activeElement;
              if (!node || node === document.body) return null;
              const labels = [...(node.labels || [])].map((label) => label.textContent.trim()).join(" ");
              const label = node.getAttribute("aria-label") || node.getAttribute("aria-labelledby");
              const named = label || node.textContent.trim() || node.title || labels;
              const shown = (element, pseudo) => {
                const style = getComputedStyle(element, pseudo);
                const outlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
                return outlined || style.boxShadow !== "none";
              };
              const near = [node, node.nextElementSibling, node.parentElement].filter(Boolean);
              const seen = near.some((element) => shown(element)) || node.type === "range";
              return { named, seen, html: node.outerHTML.slice(0, 160) };
            }"""
        )
        if stop is None:
            break
        assert stop["named"], stop["html"]
        assert stop["seen"], stop["html"]
        stops.append(stop["named"])
    assert {"Pruning ratio", "Bit-width", "Measure"} <= set(stops)


def test_the_tour_walks_every_part_and_can_be_skipped(page: Page) -> None:
    start = page.get_by_role("button", name="Two-minute tour")
    start.click()
    dialog = page.get_by_role("dialog")
    seen = set()
    for _ in range(9):
        seen.add(dialog.get_by_role("heading").inner_text())
        page.keyboard.press("ArrowRight")
    assert len(seen) == 9
    assert not dialog.is_visible()
    start.click()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("document.activeElement.textContent") == "Two-minute tour"


def test_help_opens_where_the_question_arises_and_closes_with_escape(page: Page) -> None:
    mark = page.get_by_role("button", name="Help: size")
    mark.click()
    bubble = page.get_by_text("The entropy bound is the least")
    assert bubble.is_visible()
    page.keyboard.press("Escape")
    assert not bubble.is_visible()


@pytest.mark.slow
def test_text_that_is_enlarged_to_twice_its_size_still_fits_the_page(browser: Browser, app: Served) -> None:
    """Zooming to 200 % is what a page of half the width sees (WCAG 1.4.10)."""
    with open_page(browser, app, viewport={"width": 720, "height": 450}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 720
        assert page.get_by_label("Pruning ratio", exact=True).is_visible()


def test_reduced_motion_is_respected(browser: Browser, app: Served) -> None:
    with open_page(browser, app, reduced_motion="reduce") as page:
        moving = page.evaluate(
            """() => [...document.querySelectorAll(".wb *")].filter((node) => {
              const style = getComputedStyle(node);
              const slides = style.transitionDuration !== "0s" && style.transitionProperty !== "none";
              return slides || style.animationName !== "none";
            }).map((node) => node.className)"""
        )
        assert moving == []


def test_settled_figures_are_spoken_once(page: Page) -> None:
    """The live region changes once for each setting that settles, not with every look."""
    page.evaluate(
        """() => {
          window.spoken = [];
          const live = document.querySelector('.wb-scoreboard [aria-live=polite]');
          const note = () => window.spoken.push(live.textContent);
          new MutationObserver(note).observe(live, { childList: true, characterData: true, subtree: true });
        }"""
    )
    page.get_by_label("Bit-width", exact=True).fill("5")
    wait_settled(page, "- quantize: {bits: 5}")
    page.wait_for_function("window.spoken.length > 0", timeout=10_000)
    assert len(page.evaluate("window.spoken")) == 1
    assert "Accuracy" in page.evaluate("window.spoken[0]")
