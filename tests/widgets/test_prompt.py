"""A widget's messages are handled at once, and make no kernel busy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import comm
import pytest
from ipykernel.comm.comm import BaseComm

from tests.widgets.fake_session import FakeSession
from widgets import ControlsView


class FakeKernel(SimpleNamespace):
    """What of an ipykernel tells whether it is busy; answers a message of ``parent``."""

    parent: dict[str, Any]

    def __init__(self) -> None:
        super().__init__(said=[], parent={})

    def get_parent(self, _channel: str) -> dict[str, Any]:
        return self.parent

    def _publish_status(self, status: str, _channel: str, parent: dict[str, Any] | None = None) -> None:
        message = parent or self.parent
        self.said.append((status, message["header"]["msg_type"]))


def message(kind: str, comm_id: str = "") -> dict[str, Any]:
    return {"header": {"msg_type": kind}, "content": {"comm_id": comm_id}}


def answer(kernel: FakeKernel, parent: dict[str, Any]) -> None:
    kernel.parent = parent
    for status in ("busy", "idle"):
        kernel._publish_status(status, "shell")


@pytest.fixture
def opened(session: FakeSession, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return two views of comms as ipykernel makes them, and the kernel of both."""
    kernel = FakeKernel()
    monkeypatch.setattr(BaseComm, "publish_msg", lambda self, *_args, **_options: setattr(self, "kernel", kernel))
    monkeypatch.setattr(comm, "create_comm", BaseComm)
    views = [ControlsView(session) for _ in range(2)]
    yield kernel, *views
    for view in views:
        view.close()


def test_a_widgets_messages_stay_with_the_subshell_that_the_page_named(opened: Any) -> None:
    _, view, _ = opened
    view.comm._reply_subshell_id = None  # as after a thread told something while a cell runs in the main shell
    assert view.comm._reply_subshell_for({"method": "update"}, "the page's") == "the page's"


def test_a_moved_slider_makes_no_kernel_busy_and_is_told_to_be_done(opened: Any) -> None:
    kernel, *views = opened
    for view in views:
        answer(kernel, message("comm_msg", view.comm.comm_id))
    assert kernel.said == [("idle", "comm_msg")] * 2


def test_what_else_a_kernel_does_makes_it_busy(opened: Any) -> None:
    kernel, view, _ = opened
    answer(kernel, message("comm_msg", "another's"))
    answer(kernel, message("execute_request"))
    assert kernel.said == [
        ("busy", "comm_msg"),
        ("idle", "comm_msg"),
        ("busy", "execute_request"),
        ("idle", "execute_request"),
    ]
    kernel.said.clear()
    kernel._publish_status("busy", "shell", parent=message("comm_msg", view.comm.comm_id))
    assert not kernel.said
