"""One image through PyTorch under its profiler: each layer's time, each operator's, and the peak of the activations.

Layers are marked with ``record_function`` by hooks, so that what runs inside one counts for it. Memory is the running
sum of what the profiler saw allocated and freed during the run: activations and the operators' workspaces, not the
weights, which were there before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.run.one_thread import one_thread

#: Profiled runs, of which the quickest counts for each layer, and runs before them.
RUNS, WARM = 8, 3
_MARK = "workbench::"


@dataclass(frozen=True)
class TorchProfile:
    """``layers`` and ``operators``: name → milliseconds of one image; ``peak_bytes`` of activations."""

    layers: dict[str, float]
    operators: dict[str, float]
    ms: float
    peak_bytes: int


def profile_torch(
    module: nn.Module, names: Sequence[str], image: Tensor, check: Callable[[], None] = lambda: None
) -> TorchProfile:
    """Return the profile of ``module`` on one normalised ``image`` ``(C, H, W)``, at one thread."""
    batch = image[None].contiguous()
    found: list[TorchProfile] = []
    with one_thread(), torch.inference_mode(), _marked(module, names):
        for run in range(WARM + RUNS):
            check()
            if run < WARM:
                module(batch)
            else:
                found.append(_profiled(module, batch))
    best = min(found, key=lambda one: one.ms)
    layers = {name: min(one.layers.get(name, float("inf")) for one in found) for name in best.layers}
    return TorchProfile(layers, best.operators, best.ms, max(one.peak_bytes for one in found))


def _profiled(module: nn.Module, batch: Tensor) -> TorchProfile:
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else it tells the terminal of every run
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        module(batch)
    layers: dict[str, float] = {}
    operators: dict[str, float] = {}
    for event in profiler.events() or ():
        if event.name.startswith(_MARK):
            name = event.name.removeprefix(_MARK)
            layers[name] = layers.get(name, 0.0) + event.cpu_time_total / 1e3
        elif event.name.startswith("aten::"):
            name = event.name.removeprefix("aten::")
            operators[name] = operators.get(name, 0.0) + event.self_cpu_time_total / 1e3
    return TorchProfile(layers, operators, sum(operators.values()), _peak(profiler))


def _peak(profiler: Any) -> int:
    """Return the most bytes that were allocated at once during the run."""
    results = profiler.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in results if event.name() == "[memory]")
    held = most = 0
    for _, change in changes:
        held += change
        most = max(most, held)
    return most


@contextmanager
def _marked(module: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """Mark the layers of ``module`` for the profiler meanwhile."""
    with ExitStack() as hooks:
        for name in names:
            open_marks: list[Any] = []  # a layer may be called within itself

            def begin(*_: Any, name: str = name, marks: list[Any] = open_marks) -> None:
                marks.append(torch.profiler.record_function(f"{_MARK}{name}"))
                marks[-1].__enter__()

            def end(*_: Any, marks: list[Any] = open_marks) -> None:
                marks.pop().__exit__(None, None, None)

            layer = module.get_submodule(name)
            hooks.callback(layer.register_forward_pre_hook(begin).remove)
            hooks.callback(layer.register_forward_hook(end).remove)
        yield
