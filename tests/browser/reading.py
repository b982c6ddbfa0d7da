"""Reading the page the way its contract promises: the figures' data attributes and their changes."""

from __future__ import annotations

from dataclasses import dataclass

from playwright.sync_api import Page

from workbench.recipe import Recipe

#: Notes every change of a figure with the page's clock, in ``window.watched``.
WATCH = """
window.watched = [];
const watch = new MutationObserver((records) => {
  const cards = new Set(records.map(({ target }) => target).filter((node) => node.dataset?.recipe));
  for (const card of cards) {
    const { metric, recipe, kind, n, value, low, high } = card.dataset;
    const at = performance.now();
    const figure = { n: Number(n), value: Number(value), low: Number(low), high: Number(high) };
    window.watched.push({ at, metric, recipe, kind, ...figure });
  }
});
const attributeFilter = ["recipe", "value", "kind", "n", "low"].map((name) => `data-${name}`);
watch.observe(document, { subtree: true, attributes: true, attributeFilter });
"""


@dataclass(frozen=True)
class Figure:
    """One of the three headline figures, as its element says."""

    value: float
    low: float
    high: float
    n: int
    kind: str
    recipe: str


def read(page: Page, metric: str) -> Figure:
    data = page.eval_on_selector(f"[role=status][data-metric={metric}]", "card => ({...card.dataset})")
    return Figure(
        float(data["value"]),
        float(data["low"]),
        float(data["high"]),
        int(data["n"] or 0),
        data["kind"],
        data["recipe"],
    )


def wait_settled(page: Page, recipe: Recipe | str, seconds: float = 90) -> Figure:
    """Wait until all three figures are of ``recipe`` and the accuracy is exact; return the accuracy."""
    wanted = Recipe.parse(recipe).hash if isinstance(recipe, str) else recipe.hash
    for metric, kind in (("size", ""), ("latency", ""), ("accuracy", "[data-kind=exact]")):
        page.wait_for_selector(f"[data-metric={metric}][data-recipe='{wanted}']{kind}", timeout=seconds * 1000)
    return read(page, "accuracy")


def wait_ready(page: Page) -> None:
    """Wait until the page is drawn and the dense model's figures are exact."""
    page.wait_for_selector("[role=status][data-metric=accuracy]", timeout=60_000)
    wait_settled(page, Recipe())


def clear_watch(page: Page) -> None:
    page.evaluate("window.watched.length = 0")


def watched(page: Page, metric: str, recipe: str = "") -> list[dict[str, float | str]]:
    """Return the changes of a figure seen so far, all or those of one recipe's hash."""
    seen: list[dict[str, float | str]] = page.evaluate("window.watched")
    return [change for change in seen if change["metric"] == metric and recipe in ("", change["recipe"])]
