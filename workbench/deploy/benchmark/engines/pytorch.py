"""PyTorch: exported programs (``.pt2``) and the workbench's own packed files (``.wbz``), run eagerly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .base import Engine, EngineError, Feeds, Input, KernelRow, Runtime

_RUNS = 10


class Callee:
    """What is called with tensors: a module, or what a compiler made of one."""

    _module: Any

    def bind(self, feeds: Feeds) -> Callable[[], Any]:
        """Return what runs the module once, without gradients."""
        import torch

        values = [torch.from_numpy(value) for value in feeds.values()]

        def run() -> Any:
            with torch.inference_mode():
                return self._module(*values)

        return run


class TorchEngine(Callee):
    """A module in evaluation mode, in the memory order that PyTorch's CPU kernels prefer."""

    def __init__(self, path: Path, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.version = f"torch {torch.__version__.split('+')[0]}"
        self._module, self.inputs = _exported(path) if path.suffix == ".pt2" else _packed(path)

    def kernels(self, feeds: Feeds) -> Sequence[KernelRow]:
        """Return PyTorch's own operators by the time they took themselves."""
        from torch.profiler import ProfilerActivity, profile

        run = self.bind(feeds)
        run()
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            for _ in range(_RUNS):
                run()
        return [
            KernelRow(entry.key, entry.key.removeprefix("aten::"), "fp32", entry.self_cpu_time_total / _RUNS / 1e3)
            for entry in profiled.key_averages()
            if entry.self_cpu_time_total > 0 and entry.key.startswith(("aten::", "mkldnn", "onednn"))
        ]


def _exported(path: Path) -> tuple[Any, tuple[Input, ...]]:
    import torch

    try:
        program = torch.export.load(path)
    except Exception as error:
        raise EngineError(f"'{path}' is no exported program that torch {torch.__version__} loads.") from error
    names = program.graph_signature.user_inputs
    nodes = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    values = [(str(name), nodes[str(name)]) for name in names]
    inputs = tuple(
        Input(name, tuple(size if isinstance(size, int) else None for size in value.shape),
              str(value.dtype).removeprefix("torch."))
        for name, value in values
    )  # fmt: skip
    return program.module(), inputs


def _packed(path: Path) -> tuple[Any, tuple[Input, ...]]:
    from workbench.models.load import ZOO_SHAPE
    from workbench.reopening import load_compressed

    # only architectures of the zoo can be read without being given
    return load_compressed(path).module.eval(), (Input("images", (None, *ZOO_SHAPE), "float32"),)


def _open(path: Path, threads: int) -> Engine:
    return TorchEngine(path, threads)


TORCH = Runtime("torch", (".pt2", ".wbz"), "torch", "pip install torch", _open)
