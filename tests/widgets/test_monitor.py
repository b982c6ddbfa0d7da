"""The monitor's view: a rehearsal, a server elsewhere, a Monitor of one's own; nothing while nobody looks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.deploy.test_monitor import Sums, draw
from tests.widgets.conftest import wait_until
from widgets import MonitorView
from widgets.monitor.view import FEATURES, SERVED, for_page
from workbench.deploy.monitor.reading import read_status
from workbench.deploy.monitor.reference import MonitorError, Reference
from workbench.deploy.monitor.rehearsal import Rehearsal
from workbench.deploy.monitor.server import MonitorServer
from workbench.deploy.monitor.watch import WINDOW, Monitor
from workbench.recipe import Recipe
from workbench.session import Session


@pytest.fixture(scope="module")
def real() -> Iterator[Session]:
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        session.measure(Recipe.parse("- quantize: {bits: 4}"))
        yield session


@pytest.fixture
def monitor() -> Monitor:
    return Monitor(Sums(), Reference.of(Sums(), draw(1000, 0)))


@pytest.fixture
def server(monitor: Monitor) -> Iterator[str]:
    with MonitorServer(monitor, "sums", port=0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()


def test_a_rehearsal_is_quiet_until_its_traffic_is_changed(real: Session) -> None:
    rehearsal = Rehearsal(real, real.recipe)
    rehearsal.serve(2 * WINDOW)
    assert rehearsal.monitor.alarm_count == 0
    rehearsal.serve(WINDOW, "noise")
    assert "detail" in {alarm.drift.feature for alarm in rehearsal.monitor.alarms}
    rehearsal.close()
    shadow = rehearsal.monitor.shadow
    assert shadow is not None
    assert shadow.compared + shadow.skipped == -(-3 * WINDOW // 10)
    with pytest.raises(MonitorError, match="cannot be changed by 'rain'"):
        rehearsal.serve(1, "rain")


def test_the_present_setting_is_rehearsed_and_followed(real: Session, tmp_path: Path) -> None:
    view = MonitorView(real)
    assert view.watching == {}
    wait_until(view, "present", bool)
    view._handle_custom_msg({"do": "start"}, [])
    status = wait_until(view, "status", lambda status: status.get("drift"), 60)
    assert view.watching["what"] == "4 bit"
    assert status["latency"]["p50"] > 0
    assert status["shadow"]["compared"] > 0
    assert set(status["drift"]) == set(FEATURES)
    course = np.frombuffer(view.course, np.float32).reshape(-1, 1 + len(FEATURES))
    assert course[-1, 0] >= WINDOW
    assert view.save(tmp_path / "drift.svg").stat().st_size > 2_000
    job = view._job
    view._handle_custom_msg({"do": "stop"}, [])
    assert job is not None
    assert job.wait(30)
    assert view.watching == {}
    view.close()


def test_while_nobody_looks_nothing_is_served(real: Session) -> None:
    view = MonitorView(real)
    view.start()
    wait_until(view, "status", lambda status: status.get("predictions"), 60)
    view.set_state({"visible": False})
    served = threading.Event()
    view.observe(lambda _: served.set(), "status")
    served.wait(0.8)  # one that was under way may still come
    served.clear()
    assert not served.wait(1.2)
    view.close()


def test_a_server_elsewhere_is_read_and_one_that_is_gone_is_told(server: str, monitor: Monitor) -> None:
    view = MonitorView(source="server", url=server)
    view.start()
    wait_until(view, "status", bool)
    monitor.logits(draw(WINDOW, 5) + 1)
    status = wait_until(view, "status", lambda status: status["alarms"] > 0)
    assert any("brightness rose" in sentence for sentence in status["latest"])
    view.stop()
    view.url = "http://127.0.0.1:9"
    view.start()
    assert "No monitor answers at 127.0.0.1:9" in wait_until(view, "problem", bool)
    assert view.watching == {}
    view.close()


def test_a_monitor_of_ones_own_needs_no_session(monitor: Monitor) -> None:
    view = MonitorView(monitor=monitor)
    monitor.logits(draw(3, 1))
    assert wait_until(view, "status", lambda status: status.get("predictions") == 3)["drift"] == {}
    view.close()


@pytest.mark.parametrize("url", ["", "9109", "https://example.org", "ftp://127.0.0.1", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(MonitorError, match="as serve-monitor prints it"):
        read_status(url)


def test_the_served_apps_pages_only_ask_monitors_of_their_own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVED, "1")
    view = MonitorView(source="server", url="http://192.0.2.1:9109")
    view.start()
    assert "server's own machine" in wait_until(view, "problem", bool)
    view.close()


def test_numbers_that_json_cannot_hold_are_left_out(monitor: Monitor) -> None:
    monitor.logits(draw(WINDOW, 5) * float("nan"))
    told = for_page(monitor.status())
    assert told["drift"]["brightness"]["shift"] is None
    assert told["latest"]
