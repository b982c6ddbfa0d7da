"""Apache TVM: a library compiled for this CPU, or object files for an Arm board."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from workbench.run.runner import Runner

from .calling import CallRunner
from .format import Format, FormatError, Source
from .limits import floats_in
from .torch_program import export_program, refusal


class Tvm(Format):
    """Compiled for the machine it is written on, one image a run."""

    name, title, suffix = "tvm", "TVM library", ".tvm.so"
    summary = "shared library that Apache TVM compiles for this CPU, untuned, one image a run"
    runtime, distribution, extra = "tvm", "apache-tvm", "tvm"
    modules = ("tvm",)
    varies = "the linker writes names of temporary files into it"
    target: ClassVar[dict[str, Any]] = {"kind": "llvm"}

    def remarks(self, source: Source) -> Iterator[str]:
        """Say that it is untuned, and what is widened."""
        yield "TVM's schedules are its defaults, not tuned for this machine: right, and not as fast as it can be."
        yield from floats_in(source.compressed, "TVM")

    def write(self, source: Source, folder: Path) -> tuple[Path, ...]:
        """Compile the traced program."""
        import tvm
        from tvm.relax.frontend.torch import from_exported_program

        path, program = self.path(source, folder), export_program(source, 1)
        count_from_the_front(program)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                compiled = tvm.compile(from_exported_program(program), target=tvm.target.Target(self.target))
        except Exception as error:  # tvm.error.* and asserts of its passes
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1][:200]
            raise refusal("TVM", "compile", source, reason, program) from error
        compiled.export_library(str(path))
        return (path,)

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Load the library; TVM's threads are of the thread that opens it, which has to be the one that runs it."""
        import tvm
        from tvm import relax

        # 1: on the quickest cores. TVM_NUM_THREADS would be read once only, when the threads are made
        tvm.get_global_func("runtime.config_threadpool")(1, threads or torch.get_num_threads())
        machine = relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())

        def call(image: Tensor) -> Any:
            found = machine["main"](tvm.runtime.tensor(image.numpy()))
            return (found if hasattr(found, "numpy") else found[0]).numpy()

        return CallRunner(self.runtime, call, one_by_one=True)


class TvmArm(Tvm):
    """Object files for 64-bit Arm, such as a Raspberry Pi 4 or 5."""

    name, title, suffix = "tvm-arm", "TVM for Arm", ".aarch64.tar"
    summary = "object files that Apache TVM compiles for 64-bit Arm Linux; linked and run on the board"
    runs_here = False
    target: ClassVar[dict[str, Any]] = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": ["+neon"]}

    def remarks(self, source: Source) -> Iterator[str]:
        """Say how to link it."""
        yield "Not run here. On the board: tar -xf FILE && cc -shared -o model.so *.o; TVM's runtime loads model.so."
        yield from super().remarks(source)

    def open(self, path: Path, threads: int | None = None, architecture: nn.Module | None = None) -> Runner:
        """Raise: this machine is no Arm board."""
        raise FormatError(f"{path.name} is for 64-bit Arm and does not run on this machine.")


def count_from_the_front(program: torch.export.ExportedProgram) -> None:
    """Let each ``select`` of a traced program count from the front: TVM 0.27 reads before the tensor at index -1."""
    for node in program.graph.nodes:
        if node.target is torch.ops.aten.select.int and node.args[2] < 0:
            tensor, axis, index = node.args
            node.args = tensor, axis, index + tensor.meta["val"].shape[axis]
    program.graph_module.recompile()
