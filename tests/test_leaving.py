"""A script that ends with sessions open and jobs running ends as if it had closed them."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from widgets.base.errands import Errands
from widgets.base.feed import listen
from workbench import leaving
from workbench.jobs import Job
from workbench.session import Session
from workbench.snapshot import Snapshot

SCRIPT = """
import torch, workbench as wb
from torch import nn
torch.manual_seed(0)
images, labels = torch.randint(0, 255, (400, 3, 16, 16), dtype=torch.uint8), torch.arange(400) % 5
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 5))
first = wb.Session(model, (images, labels)).measure("- prune: {ratio: 0.5}")
second = wb.Session(model, (images, labels)).measure("- prune: {ratio: 0.6}")
print("measured")
"""


@pytest.fixture
def nothing_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "_at_work", WeakKeyDictionary())


def until_cancelled(job: Job[None]) -> None:
    while True:
        job.check()


@pytest.mark.usefixtures("nothing_at_work")
def test_sessions_and_jobs_left_open_are_ended_before_python_is() -> None:
    session = Session("lenet300", "fashion_mnist", history=":memory:")
    job: Job[Any] = Job("task without end", until_cancelled)
    leaving._end_all()
    assert session.closed
    assert job.progress.state == "cancelled"
    assert not [thread for thread in threading.enumerate() if "lenet300" in thread.name or "without" in thread.name]
    session.close()


@pytest.mark.usefixtures("nothing_at_work")
def test_what_is_being_drawn_is_drawn_before_python_ends_and_no_more() -> None:
    begun, go_on, drawn = threading.Event(), threading.Event(), []
    others = set(threading.enumerate())  # of views that other tests have left open

    def draw(snapshot: Snapshot) -> None:
        begun.set()
        go_on.wait()
        drawn.append(snapshot)

    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        leave = listen(session, draw)
        errands = Errands("test-errands")
        begun.wait()
        errands.run("first", go_on.wait)
        errands.run("second", lambda: drawn.append("an errand"))
        threading.Timer(0.2, go_on.set).start()
        leaving._end_all()
        assert len(drawn) == 1
        ours = set(threading.enumerate()) - others
        assert not {"workbench-feed", "test-errands"} & {thread.name for thread in ours}
        leave()


@pytest.mark.usefixtures("nothing_at_work")
def test_a_forked_process_leaves_those_of_its_parent_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    job: Job[Any] = Job("task without end", until_cancelled)
    with monkeypatch.context() as forked:
        forked.setattr(leaving.os, "getpid", lambda: 0)
        leaving._end_all()
    assert job.running
    leaving._end_all()
    assert not job.running


@pytest.mark.slow
def test_a_script_that_leaves_its_sessions_open_ends_well() -> None:
    for _ in range(3):
        ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
        assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "measured", "")
