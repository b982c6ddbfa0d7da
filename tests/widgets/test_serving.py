"""How serving is set up, and who gets a kernel; no server runs here (tests/browser/test_serving.py has one)."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.browser.launch import ROOT
from widgets.serving import app, kernels, priority
from widgets.serving.app import (
    DATA_FOLDERS,
    FORESIGHT,
    KERNEL_BYTES,
    NOTEBOOK,
    SHARE,
    Options,
    ServingError,
    candidates,
    configuration,
    places,
    prepare_environment,
    serve,
)
from widgets.serving.page import Page
from workbench.foresight import seconds

TEMPLATE = SHARE / "voila" / "templates" / "workbench"


def test_nothing_in_the_page_comes_from_another_host() -> None:
    for path in [*TEMPLATE.iterdir(), *Path(NOTEBOOK.parents[1], "widgets").glob("*.[jc]s*")]:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")  # a name, not an address
        assert not re.search(r"https?://|//cdn", text), path.name


def test_template_leaves_out_what_voila_takes_from_a_cdn() -> None:
    page = (TEMPLATE / "index.html.j2").read_text()
    for block in ("notebook_css", "html_head_js_mermaidjs"):
        replaced = re.search(rf"block {block} -%}}(.*?){{%- endblock {block}", page, re.DOTALL)
        assert replaced is not None
        assert "super()" not in replaced[1]


def test_listening_beyond_this_machine_asks_for_a_token() -> None:
    assert not configuration(Options()).Voila.auto_token
    assert configuration(Options(ip="0.0.0.0")).Voila.auto_token


def test_where_no_token_is_asked_for_other_names_than_this_machines_are_not_answered_to() -> None:
    local = configuration(Options(host_names=("box.example",))).Voila.tornado_settings
    assert (local["allow_remote_access"], local["local_hostnames"]) == (False, ["localhost", "box.example"])
    assert configuration(Options(ip="0.0.0.0")).Voila.tornado_settings["allow_remote_access"]


def test_an_address_of_another_machine_is_one_sentence() -> None:
    command = [sys.executable, "-m", "workbench.cli", "app", "--no-browser", "--ip", "192.0.2.77"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("workbench: --ip: '192.0.2.77' cannot be listened on (")
    assert done.stderr.count("\n") == 1


def test_a_given_port_is_the_only_one_tried() -> None:
    assert list(candidates(9000)) == [9000]
    assert next(candidates(None)) == 8866
    assert len(list(candidates(None))) > 5


def test_a_taken_port_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code = f"""
from widgets.serving import Options, serve
try:
    serve(Options(port={port}))
except ValueError as error:
    print('said:', error)
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"said: Port {port} is taken or not allowed: choose another with --port, or 0 for any.\n"


def test_a_missing_notebook_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=r"notebook is not at .*app\.ipynb"):
        serve(Options(notebook=tmp_path / "app.ipynb"))


def test_kernels_are_told_not_to_spin_before_torch_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.delenv("JUPYTER_PATH", raising=False)
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    for name in ("WORKBENCH_SERVED", "MALLOC_ARENA_MAX"):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv("MALLOC_ARENA_MAX")
    prepare_environment(Options())
    prepare_environment(Options())
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["PYTHONPATH"].split(os.pathsep).count("/elsewhere") == 1
    assert os.environ["JUPYTER_PATH"] == str(SHARE)


def test_importing_the_server_loads_neither_torch_nor_the_widgets() -> None:
    heavy = {"torch", "ipywidgets", "voila", "anywidget"}
    code = f"import sys, widgets.serving; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("given", "base"), [("/", "/"), ("", "/"), ("proxy/x", "/proxy/x/"), ("//proxy//x/", "/proxy/x/")]
)
def test_a_base_url_begins_and_ends_with_a_slash(given: str, base: str) -> None:
    assert configuration(Options(base_url=given)).Voila.base_url == base


def test_the_first_ping_does_not_close_the_connection() -> None:
    settings = configuration(Options()).Voila.tornado_settings
    assert settings["ws_ping_timeout"] >= 2 * settings["ws_ping_interval"]


def test_an_idle_page_stays_open_on_ones_own_machine_and_makes_room_on_a_shared_one() -> None:
    assert configuration(Options()).PageKernels.idle_limit == 0
    assert configuration(Options(ip="0.0.0.0")).PageKernels.idle_limit >= 3600


def test_places_follow_from_free_memory_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, expected in ((0, 2), (10 * KERNEL_BYTES + 1, 10), (1000 * KERNEL_BYTES, 40)):
        monkeypatch.setattr(app, "available_bytes", lambda free=free: free)
        assert places() == expected
    assert configuration(Options(max_kernels=60)).PageKernels.limit == 60


def test_data_folders_are_handed_to_kernels_and_beyond_this_machine_there_are_none_by_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("OMP_WAIT_POLICY", "MALLOC_ARENA_MAX", "JUPYTER_PLATFORM_DIRS", "JUPYTER_PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("WORKBENCH_SERVED", "")
    monkeypatch.setenv(DATA_FOLDERS, "")
    monkeypatch.delenv(DATA_FOLDERS)
    prepare_environment(Options())
    assert DATA_FOLDERS not in os.environ
    prepare_environment(Options(ip="0.0.0.0"))
    assert os.environ[DATA_FOLDERS] == ""
    (tmp_path / "more").mkdir()
    prepare_environment(Options(data_folders=(tmp_path, tmp_path / "more")))
    assert os.environ[DATA_FOLDERS] == os.pathsep.join(map(str, (tmp_path, tmp_path / "more")))


def test_how_far_pages_look_ahead_is_handed_to_kernels_where_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_WAIT_POLICY", "MALLOC_ARENA_MAX", "JUPYTER_PLATFORM_DIRS", "JUPYTER_PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("WORKBENCH_SERVED", "")
    monkeypatch.setenv(FORESIGHT, "60")
    prepare_environment(Options())
    assert seconds() == 60
    prepare_environment(Options(foresight=0.0))
    assert seconds() == 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--foresight", "-1"], "--foresight must be a number of seconds, 0 for none, not -1."),
        (["--max-kernels", "0"], "--max-kernels must be at least 1, not 0."),
        (["--port", "70000"], "--port must be from 0 (any) to 65535, not 70000."),
        (["--data-folder", "/no/such/folder"], "--data-folder: '/no/such/folder' is not a folder."),
    ],
)
def test_options_that_make_no_sense_are_one_sentence(options: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "workbench.cli", "app", "--no-browser", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"workbench: {sentence}\n")


# ── who gets a kernel ────────────────────────────────────────────────────────────────────────────────────


class FakePage:
    """A page whose kernel has started as soon as it is made."""

    made = 0

    def __init__(self, manager: kernels.PageKernels) -> None:
        FakePage.made += 1
        self.kernel_id = f"kernel-{FakePage.made}"
        self.cancelled = False

    async def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture(autouse=True)
def _fake_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "Page", FakePage)
    FakePage.made = 0


def run(story: Callable[[kernels.PageKernels], Awaitable[None]], **settings: Any) -> None:
    async def tell() -> None:
        await story(kernels.PageKernels(**{"limit": 3, "spare": 1, "refill_delay": 0.0, **settings}))

    asyncio.run(tell())


def test_a_page_takes_the_spare_kernel_and_another_is_made_ready() -> None:
    async def story(manager: kernels.PageKernels) -> None:
        manager.refill()
        assert FakePage.made == 1
        page = manager.open_page()
        assert page is not None
        assert page.kernel_id == "kernel-1"
        await asyncio.sleep(0.01)
        assert FakePage.made == 2
        assert manager.pages == 1

    run(story)


def test_the_limit_counts_spare_kernels_but_no_page_loses_its_place_to_one() -> None:
    async def story(manager: kernels.PageKernels) -> None:
        manager.refill()
        for _ in range(3):
            assert manager.open_page() is not None
            await asyncio.sleep(0.01)
        assert manager.open_page() is None
        assert FakePage.made == 3  # the third page took the spare one, and there was no room for the next
        assert manager.pages == 3

    run(story)


def test_a_closed_page_gives_its_place_back() -> None:
    async def story(manager: kernels.PageKernels) -> None:
        pages = [manager.open_page() for _ in range(3)]
        assert manager.open_page() is None
        assert pages[0] is not None
        await manager.end(pages[0].kernel_id)
        assert pages[0].cancelled
        assert manager.pages == 2
        assert manager.open_page() is not None

    run(story, spare=0)


def test_a_page_that_cannot_be_rendered_gives_its_place_and_its_kernel_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Page) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(kernels, "Page", Page)
    monkeypatch.setattr(Page, "_renderer", fail)

    async def story(manager: kernels.PageKernels) -> None:
        manager.refill()
        page = manager.open_page()
        assert page is not None
        pieces = [piece async for piece in page.html()]
        assert "ended('failed')" in pieces[-1]
        await asyncio.sleep(0.01)
        assert manager.pages == 0
        assert not manager._spares or manager._spares[0].kernel_id != page.kernel_id

    run(story, refill_delay=60.0)


def test_a_page_is_told_whether_its_kernel_is_there_and_why_not() -> None:
    async def story(manager: kernels.PageKernels) -> None:
        died, idle, closed = (manager.open_page() for _ in range(3))
        assert died is not None
        assert idle is not None
        assert closed is not None
        assert manager.state(died.kernel_id) == {"open": True, "connected": False}
        connection = object()
        manager.connected(died.kernel_id, connection)
        assert manager.state(died.kernel_id) == {"open": True, "connected": True}
        await manager.end(died.kernel_id, "died")
        await manager.end(idle.kernel_id, "idle")
        await manager.shutdown_kernel(closed.kernel_id)
        for page, reason in ((died, "died"), (idle, "idle"), (closed, "closed")):
            assert manager.state(page.kernel_id) == {"open": False, "reason": reason}
        assert manager.state("another") == {"open": False, "reason": "unknown"}

    run(story)


def test_a_kernel_ends_when_nobody_came_for_it_and_stays_while_someone_is_there() -> None:
    async def story(manager: kernels.PageKernels) -> None:
        fetched, shown = manager.open_page(), manager.open_page()
        assert fetched is not None
        assert shown is not None
        manager.connected(shown.kernel_id, "a page")
        for page in (fetched, shown):
            manager.expect(page)
        await asyncio.sleep(0.05)
        assert manager.state(fetched.kernel_id)["open"] is False
        assert manager.state(shown.kernel_id)["open"] is True
        manager.disconnected(shown.kernel_id, "a page")
        await manager.end_if_left(shown.kernel_id)
        assert manager.pages == 0

    run(story, spare=0, patience=0.01)


def test_a_kernel_that_computes_is_not_idle_though_its_page_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter((30.0, 90.0, 90.5, 90.9))
    monkeypatch.setattr(kernels, "processor_seconds", lambda process: next(taken))
    monkeypatch.setattr(kernels, "_process", lambda kernel: 1)

    async def story(manager: kernels.PageKernels) -> None:
        page = manager.open_page()
        assert page is not None
        long_ago = kernels.utcnow() - datetime.timedelta(hours=3)
        manager._kernels[page.kernel_id] = SimpleNamespace(last_activity=long_ago, execution_state="idle")
        for _ in range(3):
            await manager.cull_kernel_if_idle(page.kernel_id)
            assert manager.state(page.kernel_id)["open"]
        _, when = manager._worked[page.kernel_id]
        manager._worked[page.kernel_id] = 90.5, when - datetime.timedelta(hours=3)
        monkeypatch.setattr(
            kernels.PageKernels, "__contains__", lambda manager, kernel_id: False
        )  # nothing to shut down
        await manager.cull_kernel_if_idle(page.kernel_id)
        assert manager.state(page.kernel_id) == {"open": False, "reason": "idle"}

    run(story, spare=0, idle_limit=7200.0)


def test_a_server_that_stops_starts_no_more_kernels() -> None:
    async def story(manager: kernels.PageKernels) -> None:
        manager.refill()
        page = manager.open_page()
        await manager.shutdown_all()
        assert manager.pages == 0
        assert page is not None
        assert page.cancelled
        made = FakePage.made
        manager.refill()
        assert manager.open_page() is None
        assert FakePage.made == made

    run(story)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="This system shares no processor by session.")
def test_a_kernel_stands_back_in_its_threads_and_as_a_session() -> None:
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    group = Path(f"/proc/{process.pid}/autogroup")
    try:
        priority.step_back(process.pid)
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == min(19, own + priority.NICENESS)
        for niceness in (priority.NICENESS, 0):
            asyncio.run(priority.step_back_whole(process.pid, niceness))
            assert group.read_text().split()[-1] == str(niceness)
    finally:
        process.kill()
        process.wait()
    priority.step_back(process.pid)  # one that has ended already is no harm
    asyncio.run(priority.step_back_whole(process.pid, 1))


def test_only_the_page_that_is_open_alone_does_not_stand_back(monkeypatch: pytest.MonkeyPatch) -> None:
    behind: dict[int, int] = {}

    async def step_back_whole(process: int, niceness: int) -> None:
        behind[process] = niceness

    monkeypatch.setattr(kernels, "step_back_whole", step_back_whole)
    monkeypatch.setattr(kernels, "_process", lambda kernel: kernel)

    async def story(manager: kernels.PageKernels) -> None:
        ids = {"first": 1, "second": 2, "spare": 3}
        monkeypatch.setattr(manager, "list_kernel_ids", lambda: list(ids))
        monkeypatch.setattr(manager, "get_kernel", ids.get)
        back = priority.NICENESS
        for opened, expected in (
            (["first"], {2: back, 3: back}),
            (["first", "second"], {1: back, 2: back, 3: back}),
            (["second"], {1: back, 2: 0, 3: back}),
        ):
            manager._open = dict.fromkeys(opened, FakePage(manager))
            await manager._balance()
            assert behind == expected

    run(story)
