"""Whose number of threads is changed, and for how long."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from workbench.run.one_thread import SMALL, one_blas_thread, one_openmp_thread, one_thread

threadpoolctl = pytest.importorskip("threadpoolctl")


def _threads() -> set[int]:
    np.eye(2) @ np.eye(2)
    return {library["num_threads"] for library in threadpoolctl.threadpool_info() if library["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def _several_threads() -> object:
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        yield


def test_pytorch_has_its_threads_back_afterwards() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_only_the_thread_that_is_inside_has_one_openmp_thread() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    seen: list[int] = []
    try:
        with one_openmp_thread():
            assert torch.get_num_threads() == 1
            thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            thread.start()
            thread.join(10)
        assert torch.get_num_threads() == 2
        assert seen == [2]
    finally:
        torch.set_num_threads(before)


def test_small_matrices_are_decomposed_on_one_thread_and_large_ones_on_all() -> None:
    before = _threads()
    with one_blas_thread(SMALL):
        assert _threads() == {1}
    with one_blas_thread(SMALL + 1):
        assert _threads() == before
    assert _threads() == before


def test_a_thread_that_enters_beside_another_does_not_put_back_a_wrong_number() -> None:
    before, entered, leave = _threads(), threading.Event(), threading.Event()

    def other() -> None:
        with one_blas_thread(1):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with one_blas_thread(1):
        thread.start()
        assert entered.wait(10)
    leave.set()
    thread.join(10)
    assert _threads() == before
