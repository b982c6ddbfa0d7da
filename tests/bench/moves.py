"""Moving the sliders of an open page, with the page's own clock, and counting what comes to it meanwhile."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Page

#: Moves "Pruning ratio" and, every third time, "Bit-width"; resolves to, for each move, the milliseconds
#: from the slider's `input` event to the frame after each of the ``metrics`` changed.
MOVE = """async ({ moves, pause, metrics, first }) => {
  const [ratio, bits] = document.querySelectorAll(".wb-controls input[type=range]");
  const card = (metric) => document.querySelector(`[data-metric=${metric}]`);
  const frame = () => new Promise((resolve) => requestAnimationFrame(() => resolve(performance.now())));
  const until = (test) => new Promise((resolve) => {
    const look = () => { if (test()) { observer.disconnect(); resolve(frame()); } };
    const observer = new MutationObserver(look);
    const attributeFilter = ["data-recipe", "data-value"];
    observer.observe(document.body, { subtree: true, attributes: true, attributeFilter });
  });
  const times = [];
  for (let move = first; move < first + moves; move += 1) {
    const before = card("size").dataset.recipe;
    const changes = metrics.map((metric) => until(() => card(metric).dataset.recipe !== before));
    const slider = move % 3 === 2 ? bits : ratio;
    const wanted = slider === bits ? 2 + (move * 5) % 7 : 5 + (move * 17) % 83;
    slider.value = wanted === slider.valueAsNumber ? wanted + 1 : wanted;
    const start = performance.now();
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    times.push((await Promise.all(changes)).map((end) => end - start));
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  return times;
}"""

#: The recipe whose size is shown, once its accuracy is exact.
SETTLED = """() => {
  const card = (metric) => document.querySelector(`[data-metric=${metric}]`).dataset;
  return card("accuracy").kind === "exact" && card("accuracy").recipe === card("size").recipe;
}"""


#: The page knows the size at every position of the two main sliders, but where both are off.
FORESEEN = "() => Number(document.querySelector('.wb-controls').dataset.ahead) >= 950"


class Traffic:
    """Counts the frames and bytes that a kernel's websocket brings to a page; made before it is opened."""

    def __init__(self, page: Page) -> None:
        self.frames = self.bytes = 0
        page.on("websocket", self._listen)

    def _listen(self, socket: Any) -> None:
        if "/channels" in socket.url:
            socket.on("framereceived", self._count)

    def _count(self, payload: str | bytes) -> None:
        self.frames += 1
        self.bytes += len(payload.encode() if isinstance(payload, str) else payload)


@dataclass(frozen=True)
class Sent:
    """What one move brought to the page until its figures had settled."""

    frames: int
    bytes: int


def move(page: Page, moves: int, *metrics: str, first: int = 0, pause: int = 300) -> list[list[float]]:
    """Move the sliders ``moves`` times; return for each metric the milliseconds of every move."""
    settings = {"moves": moves, "pause": pause, "metrics": metrics, "first": first}
    times: list[list[float]] = page.evaluate(MOVE, settings)
    return [list(column) for column in zip(*times, strict=True)]


def wait_foreseen(page: Page, seconds: float = 120) -> None:
    """Leave the page alone until it knows the sizes at all positions of its sliders."""
    page.wait_for_function(FORESEEN, timeout=seconds * 1000)


def weigh(page: Page, traffic: Traffic, moves: int, *, first: int = 0, seconds: float = 120) -> list[Sent]:
    """Move the sliders one move at a time, each until it has settled; return what each brought."""
    sent = []
    for number in range(first, first + moves):
        frames, size = traffic.frames, traffic.bytes
        move(page, 1, "size", first=number, pause=0)
        page.wait_for_function(SETTLED, timeout=seconds * 1000)
        page.wait_for_timeout(500)  # what follows the exact figure belongs to the move
        sent.append(Sent(traffic.frames - frames, traffic.bytes - size))
    return sent


def percentile(values: Sequence[float], share: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[share - 1]


def time_line(what: str, times: Sequence[float], must: float) -> str:
    """Return one printed line on the times, in milliseconds."""
    p50, p95 = percentile(times, 50), percentile(times, 95)
    verdict = "" if p95 <= must else "  MISSED"
    return f"  {what:<28} p50 {p50:5.0f} ms   p95 {p95:5.0f} ms   (must: p95 <= {must:.0f} ms){verdict}"


def sent_line(what: str, sent: Sequence[Sent], must: int) -> str:
    """Return one printed line on what moves brought, in kilobytes."""
    most = max(entry.bytes for entry in sent)
    middle = statistics.median(entry.bytes for entry in sent)
    frames = statistics.median(entry.frames for entry in sent)
    verdict = "" if most <= must else "  MISSED"
    return (
        f"  {what:<28} median {middle / 1e3:5.1f} kB   most {most / 1e3:5.1f} kB in {frames:.0f} messages"
        f"   (must: <= {must / 1e3:.0f} kB){verdict}"
    )
