"""How the app is served: its skeleton, its banner, its token, its places; and that nothing is left behind."""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.kernel import kernel_id, kernel_process
from tests.browser.launch import Served, serve_app
from tests.browser.reading import read, wait_ready
from tests.browser.wire import wire_to
from workbench.recipe import Recipe

BASE = "/proxy/x/"


@contextmanager
def tab(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """Open ``url`` in a browser that has never been here, and close it as a person would."""
    context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
    page = context.new_page()
    page.goto(url)
    yield page
    page.close(run_before_unload=True)
    context.close()


def wait_shown(page: Page, recipe: Recipe | str, seconds: float = 60) -> None:
    """Wait until the page shows the size of ``recipe``."""
    wanted = (Recipe.parse(recipe) if isinstance(recipe, str) else recipe).hash
    page.wait_for_selector(f"[data-metric=size][data-recipe='{wanted}']", timeout=seconds * 1000)


# ── the skeleton ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_skeleton_lies_where_the_page_will(browser: Browser, app: Served) -> None:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.add_init_script(
        """document.addEventListener("DOMContentLoaded", () => {
          const box = (part) => document.querySelector(part).getBoundingClientRect().toJSON();
          window.skeleton = Object.fromEntries(["controls", "weights", "scores", "tabs", "panel", "strip"]
            .map((part) => [part, box(`.sk-${part}`)]));
        })"""
    )
    page.goto(app.url)
    wait_ready(page)
    skeleton = page.evaluate("window.skeleton")
    for part in ("controls", "weights", "scores", "tabs", "panel", "strip"):
        selector = ".wb-panel:not(.wb-panel-hidden)" if part == "panel" else f".wb-area-{part}"
        real = page.eval_on_selector(selector, "part => part.getBoundingClientRect().toJSON()")
        for side in ("left", "top", "right", "bottom"):
            assert abs(real[side] - skeleton[part][side]) <= 6, (part, side, real, skeleton[part])
    page.close(run_before_unload=True)
    context.close()


# ── the banner ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_killed_kernel_is_said_and_one_button_brings_the_recipe_back(browser: Browser, app: Served) -> None:
    recipe = Recipe.parse("- quantize: {bits: 5}")
    with tab(browser, app.url) as page:
        wait_ready(page)
        page.get_by_role("slider", name="Bit-width", exact=True).fill("5")
        wait_shown(page, recipe)
        banner = page.get_by_role("alert").filter(has=page.get_by_role("button", name="Start again"))
        expect(banner).to_be_hidden()
        page.wait_for_url("**recipe=**")  # written once the sliders rest
        address = page.url
        kernel_process(app, kernel_id(page)).kill()
        expect(banner).to_be_visible(timeout=5_000)
        expect(banner).to_contain_text("stopped unexpectedly; your recipe is kept")
        assert page.url == address
        assert read(page, "size").recipe == recipe.hash
        page.get_by_role("button", name="Start again").click()
        expect(banner).to_be_hidden()
        wait_shown(page, recipe)
        bits = page.get_by_role("slider", name="Bit-width", exact=True)
        expect(bits).to_have_attribute("aria-valuetext", "5 bit")  # which follows the figures


def test_a_short_loss_of_the_network_mends_itself_and_loses_no_move(browser: Browser, app: Served) -> None:
    with wire_to(app.url) as wire, tab(browser, wire.through(app.url)) as page:
        wait_ready(page)
        kernel = kernel_id(page)
        bits = page.get_by_role("slider", name="Bit-width", exact=True)
        wire.go_dead()
        bits.fill("6")  # sent, and swallowed
        bits.fill("5")  # waits for an answer to the one before, which never comes
        wire.cut()
        banner = page.get_by_role("alert").filter(has_text="Connection lost, trying again.")
        expect(banner).to_be_visible(timeout=5_000)
        expect(page.get_by_role("button", name="Start again")).to_be_hidden()
        wire.mend()
        expect(banner).to_be_hidden(timeout=10_000)
        wait_shown(page, "- quantize: {bits: 5}")
        bits.fill("4")
        wait_shown(page, "- quantize: {bits: 4}")
        assert kernel_id(page) == kernel


@pytest.mark.slow
def test_a_page_may_stay_open(browser: Browser, app: Served) -> None:
    with tab(browser, app.url) as page:
        wait_ready(page)
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.wait_for_timeout(50_000)  # longer than the time in which the server must hear of it
        assert not sockets, "the connection was lost and made anew"
        expect(page.locator("#wb-banner")).to_be_hidden()


# ── nothing is left behind ───────────────────────────────────────────────────────────────────────────────


def test_a_page_closed_in_the_middle_of_a_sweep_and_a_drag_leaves_nothing(browser: Browser, app: Served) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(app.url)
    wait_ready(page)
    page.get_by_role("tab", name="Sensitivity").click()
    sweep = page.locator(".wb-panel-sensitivity")
    sweep.get_by_role("button", name=re.compile("^Start")).first.click()
    expect(sweep.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    kernel = kernel_process(app, kernel_id(page))
    processes = [kernel, *kernel.children(recursive=True)]
    page.evaluate(
        """() => {
          const slider = document.querySelector(".wb-controls input[type=range]");
          let move = 0;
          setInterval(() => {
            slider.value = 1 + ((move += 1) * 7) % 90;
            slider.dispatchEvent(new Event("input", { bubbles: true }));
          }, 30);
        }"""
    )
    before = read(page, "size").recipe
    page.wait_for_function("r => document.querySelector('[data-metric=size]').dataset.recipe !== r", arg=before)
    expect(sweep.get_by_role("button", name="Stop", exact=True)).to_be_visible()  # it goes on behind the slider
    page.close(run_before_unload=True)
    context.close()
    assert psutil.wait_procs(processes, timeout=15)[1] == []


# ── beyond this machine: a token, a path of its own, and places that run out ─────────────────────────────


@pytest.fixture(scope="module")
def public(app: Served) -> Iterator[Served]:
    """Serve the app to everyone, under a path, with one place; its history is that of ``app``."""
    home = Path(psutil.Process(app.pid).environ()["WORKBENCH_HOME"])
    options = ("--ip", "0.0.0.0", "--base-url", BASE, "--max-kernels", "1", "--pool", "0")
    with serve_app(home, *options) as served:
        parts = urlsplit(served.url)
        yield Served(parts._replace(netloc=f"127.0.0.1:{parts.port}").geturl(), served.pid)


def fetch(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as reply:
            return reply.status, reply.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


def test_without_the_token_there_is_nothing_but_the_question_for_it(public: Served) -> None:
    address, token = public.url.split("?token=")
    assert len(token) >= 32
    status, login = fetch(address)
    assert status == 200
    assert "asks for a token" in login
    guarded = (
        "voila/static/voila.js",
        "voila/templates/workbench/static/voila-style.js",
        "voila/labextensions/anywidget/package.json",
        "voila/page/some-kernel",
        "api/kernels/some-kernel",
    )
    for path in guarded:
        assert fetch(address + path)[0] == 403, path
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x"}
    assert fetch(address + "api/kernels/some-kernel/channels", **upgrade)[0] == 403
    authorized = {"Authorization": f"token {token}"}
    assert fetch(address + guarded[0], **authorized)[0] == 200
    assert json.loads(fetch(address + "voila/page/some-kernel", **authorized)[1]) == {
        "open": False,
        "reason": "unknown",
    }
    for path in ("voila/files/app.ipynb", "voila/files/.git/config", "app.ipynb", "voila/labextensions/other/x.js"):
        for headers in ({}, authorized):
            assert fetch(address + path, **headers)[0] in (403, 404), path
    assert not psutil.Process(public.pid).children()  # none of this started a kernel


def test_a_wrong_token_is_said_and_the_right_one_opens_the_page(browser: Browser, public: Served) -> None:
    address, token = public.url.split("?token=")
    with tab(browser, address) as page:
        page.get_by_label("Token").fill("guess")
        page.get_by_role("button", name="Open").click()
        expect(page.get_by_role("alert")).to_contain_text("not this server’s token")
        page.get_by_label("Token").fill(token)
        page.get_by_role("button", name="Open").click()
        wait_ready(page)
        assert page.url == address


def test_a_page_that_calls_itself_this_machine_under_another_name_gets_nothing(app: Served) -> None:
    parts = urlsplit(app.url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=30)
    for path in (parts.path, f"{parts.path}api/kernels/none/channels", f"{parts.path}voila/static/voila.js"):
        connection.request("GET", path, headers={"Host": f"evil.example:{parts.port}"})
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 403, path
    connection.close()


def test_the_skeleton_is_sent_before_there_is_a_kernel(public: Served) -> None:
    wait_for_place(public)
    parts = urlsplit(public.url)
    connection = http.client.HTTPConnection("127.0.0.1", parts.port or 0, timeout=30)
    for _ in range(100):
        connection.request("GET", f"{parts.path}?{parts.query}")
        reply = connection.getresponse()
        if reply.status == 200:
            break
        reply.read()  # refused: the place is free a moment after its kernel's process has ended
    first = b""
    while b'id="wb-banner"' not in first:
        piece = reply.read1()
        assert piece, first.decode()
        first += piece
    assert b'id="loading_text">Starting a kernel' in first
    assert b'id="jupyter-config-data"' not in first
    # who hangs up now has no use for a kernel
    kernels = psutil.Process(public.pid).children()
    connection.close()
    reply.close()
    assert psutil.wait_procs(kernels, timeout=20)[1] == []
    wait_for_place(public)


@pytest.mark.slow
def test_the_whole_page_works_under_its_path(browser: Browser, public: Served) -> None:
    wait_for_place(public)
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url))
    page.goto(public.url)
    wait_ready(page)
    page.get_by_role("slider", name="Bit-width", exact=True).fill("6")
    wait_shown(page, "- quantize: {bits: 6}")
    assert "token" not in parse_qs(urlsplit(page.url).query)
    asked = [url for url in asked if not url.startswith(("data:", "blob:"))]
    assert any(url.startswith("ws://") for url in asked)
    assert {(urlsplit(url).netloc, urlsplit(url).path.startswith(BASE)) for url in asked} == {
        (urlsplit(public.url).netloc, True)
    }
    kernel = kernel_process(public, kernel_id(page))
    with tab(browser, public.url) as other:
        expect(other.get_by_role("heading")).to_have_text("All places are taken")
        expect(other.get_by_role("main")).to_contain_text("One page is open on this server")
        expect(other.get_by_role("status")).to_have_text("This page tries again every 10 seconds.")
        status, _ = fetch(public.url)
        assert status == 503
        assert psutil.Process(public.pid).children() == [kernel]
        page.close(run_before_unload=True)
        context.close()
        kernel.wait(15)
        # by itself: nobody touches the page that was refused
        other.wait_for_selector("[role=status][data-metric=accuracy]", timeout=40_000)


def wait_for_place(served: Served, seconds: float = 20) -> None:
    """Wait until the kernel of the page before has ended."""
    children = psutil.Process(served.pid).children()
    assert psutil.wait_procs(children, timeout=seconds)[1] == []
