"""Channels found ahead of time: in quiet moments only, at once where someone waits, and given up when asked."""

from __future__ import annotations

import pickle
import threading

import pytest

from workbench.models.channels import trace_channels
from workbench.models.load import load_model
from workbench.models.tracing import Tracing

SHAPE = (1, 28, 28)


class Enough(Exception):
    """The work is no longer wanted."""


@pytest.fixture(scope="module")
def untraced() -> Tracing:
    """Channels that were not asked for yet."""
    return Tracing(load_model("resnet20").module, SHAPE)


def test_it_holds_back_until_someone_waits_and_then_both_have_the_same_graph(untraced: Tracing) -> None:
    looks: list[bool] = []

    def never_quiet() -> bool:
        looks.append(True)
        return False

    ahead = threading.Thread(target=untraced.beforehand, args=(never_quiet,))
    ahead.start()
    ahead.join(0.3)
    assert ahead.is_alive()
    assert len(looks) > 1
    graph = untraced.now()
    ahead.join(10)
    assert not ahead.is_alive()
    assert graph is untraced.now()
    assert graph.groups


def test_both_ways_of_tracing_are_given_up_and_none_of_it_is_taken_for_the_models_fault() -> None:
    for name, most in (("shufflenetv2", 1), ("resnet20", 1)):
        tracing, calls = Tracing(load_model(name).module, SHAPE), 0

        def check(most: int = most) -> None:
            nonlocal calls
            calls += 1
            if calls > most:
                raise Enough

        with pytest.raises(Enough):
            tracing.now(check)
        calls = 0
        with pytest.raises(Enough):
            tracing.beforehand(lambda check=check: check() is None)  # type: ignore[misc]


def test_waiting_for_another_thread_can_be_given_up() -> None:
    tracing, go, started = Tracing(load_model("resnet20").module, SHAPE), threading.Event(), threading.Event()

    def slow() -> None:
        started.set()
        go.wait(10)

    owner = threading.Thread(target=tracing.now, args=(slow,))
    owner.start()
    started.wait(10)
    asked: list[bool] = []

    def once() -> None:
        if asked:
            raise Enough
        asked.append(True)

    with pytest.raises(Enough):
        tracing.now(once)
    go.set()
    owner.join(10)
    assert tracing.now().groups


def test_a_copy_in_another_process_knows_what_was_found(untraced: Tracing) -> None:
    found = untraced.now()
    assert pickle.loads(pickle.dumps(untraced)).now() == found
    module = load_model("lenet300").module
    assert pickle.loads(pickle.dumps(Tracing(module, SHAPE))).now() == trace_channels(module, SHAPE)
