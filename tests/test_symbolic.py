"""Symbolic tracing while other threads run modules."""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn

from workbench.symbolic import symbolic_graph


class Waits(nn.Module):
    """Stops in the middle of being traced, until the test has run another module."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.reached, self.free = threading.Event(), threading.Event()

    def forward(self, x: Tensor) -> Tensor:
        self.reached.set()
        self.free.wait(10)
        return self.layer(x).relu()


def test_other_threads_run_their_modules_and_are_not_traced() -> None:
    traced, other = Waits(), nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    expected = other(torch.ones(1, 4))
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(symbolic_graph(traced)))
    thread.start()
    assert traced.reached.wait(10)
    assert torch.equal(other(torch.ones(1, 4)), expected)
    traced.free.set()
    thread.join()
    (graph,) = found
    assert [node.target for node in graph.nodes if node.op == "call_module"] == ["layer"]  # type: ignore[attr-defined]


def test_traces_that_would_cross_wait_for_each_other_and_leave_modules_as_they_were() -> None:
    call = nn.Module.__call__
    threads = [threading.Thread(target=symbolic_graph, args=(nn.Sequential(nn.Linear(4, 4)),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert nn.Module.__call__ is call


def test_what_decides_by_values_has_no_graph() -> None:
    class Branches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    assert symbolic_graph(Branches()) is None
