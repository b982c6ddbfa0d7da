"""A Program compiled by a C compiler: run on this machine or on an emulated microcontroller, and weighed.

Running here needs a C compiler (``cc``, ``gcc`` or ``clang``, or the one that ``CC`` names). Weighing for
a Cortex-M needs ``arm-none-eabi-gcc``, which Debian and Ubuntu have as ``gcc-arm-none-eabi``; running on an
emulated one ``qemu-system-arm`` besides, and the C library ``libnewlib-arm-none-eabi``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.errors import WorkbenchError

from .program import Program

_WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
#: How code for a board is compiled: for size, and only the kernels in use.
_SMALL = ("-Os", "-ffunction-sections", "-fdata-sections", "-fstack-usage")


@dataclass(frozen=True)
class Weight:
    """Bytes of a compiled model: ``flash`` (code and constants) and ``ram`` (static buffers and stack)."""

    flash: int
    ram: int


class CompiledProgram:
    """The C files of a Program as a filter: floats of images in, codes of the output out."""

    def __init__(self, program: Program, command: list[str]) -> None:
        self._output = program.values[program.output]
        self._command = command

    def codes(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the output's codes ``(N, …)`` for normalised ``images`` ``(N, C, H, W)``."""
        data = np.ascontiguousarray(images, np.float32).tobytes()
        answer = subprocess.run(self._command, input=data, capture_output=True, check=False)
        codes = np.frombuffer(answer.stdout, np.uint8)
        if answer.returncode or codes.size != len(images) * self._output.nbytes:
            raise WorkbenchError(f"The compiled model ended with status {answer.returncode}.")
        return codes.reshape(len(images), *self._output.shape)

    def logits(self, images: Tensor) -> Tensor:
        """Return the real values of the output's codes."""
        codes = self.codes(images.numpy()).astype(np.float32)
        return torch.from_numpy((codes - self._output.zero_point) * np.float32(self._output.scale))


def compile_here(program: Program, folder: Path) -> CompiledProgram:
    """Compile the files that ``write_source`` put into ``folder`` for this machine.

    Raises:
        WorkbenchError: there is no C compiler, or it refused the files.
    """
    executable = folder / "model"
    _run([_compiler(), *_WARNINGS, "-O3", *_sources(folder), "-o", str(executable)])
    return CompiledProgram(program, [str(executable)])


def compile_for_emulator(program: Program, folder: Path) -> CompiledProgram:
    """Compile the files in ``folder`` for a Cortex-M4 that QEMU emulates (its board ``mps2-an386``).

    Its answers are those of the instructions a real one would run; its time says nothing of a real one's.

    Raises:
        WorkbenchError: the compiler or the emulator is missing, or the compiler refused the files.
    """
    emulator = shutil.which("qemu-system-arm")
    if emulator is None:
        raise WorkbenchError("Emulating a microcontroller needs qemu-system-arm (on Debian: apt install it).")
    firmware = folder / "mps2.elf"
    with resources.as_file(resources.files("workbench.deploy.microcontroller") / "emulated_board") as board:
        sources = [*_sources(folder), str(board / "start.c"), "-T", str(board / "mps2.ld")]
        start = [_tool("gcc"), "-mcpu=cortex-m4", "-mthumb", "-std=c99", "-O2", "--specs=rdimon.specs"]
        _run([*start, *sources, "-o", str(firmware)])
    machine = ["-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
    console = ["-semihosting-config", "enable=on,target=native"]  # its standard input and output are ours
    return CompiledProgram(program, [emulator, *machine, *console, "-kernel", str(firmware)])


def weigh(folder: Path, cpu: str = "cortex-m4") -> Weight:
    """Return what the C files in ``folder`` take, compiled for ``cpu`` (a name GCC's ``-mcpu`` knows).

    Raises:
        WorkbenchError: there is no compiler for Arm microcontrollers, or it refused the files.
    """
    linked = folder / f"{cpu}.elf"
    sources = [str(folder / name) for name in ("model.c", "kernels.c")]
    # without the C library and a start: a board's own come on top, and are the same for every model
    roots = [f"-Wl,--undefined={name}" for name in ("model_load", "model_run")]
    flags = [f"-mcpu={cpu}", "-mthumb", *_WARNINGS, *_SMALL]
    end = ["-nostartfiles", "-Wl,--gc-sections", "-Wl,--entry=model_run", *roots, "-lgcc"]
    _run([_tool("gcc"), *flags, *sources, *end, "-o", str(linked)])
    report = _run([_tool("size"), str(linked)]).splitlines()[1].split()
    text, data, bss = map(int, report[:3])
    return Weight(flash=text + data, ram=data + bss + _stack(folder, linked))


def _stack(folder: Path, linked: Path) -> int:
    """Return the bytes of stack of the deepest call, as GCC counted them: ``model_run``, a kernel, its helper."""
    symbols = _run([_tool("nm"), str(linked)]).split()
    used: dict[str, int] = {}
    for report in folder.glob(f"{linked.name}-*.su"):
        for line in report.read_text(encoding="utf-8").splitlines():
            place, nbytes, _ = line.split("\t")
            used[place.rsplit(":", 1)[1]] = int(nbytes)
        report.unlink()
    kernels = [nbytes for name, nbytes in used.items() if name.startswith("cwb_") and name in symbols]
    helpers = [used.get(name, 0) for name in ("scaled", "inside") if name in symbols]
    return used["model_run"] + max(kernels, default=0) + max(helpers, default=0)


def _sources(folder: Path) -> list[str]:
    return [str(folder / name) for name in ("main.c", "model.c", "kernels.c")]


def _tool(name: str) -> str:
    found = shutil.which(f"arm-none-eabi-{name}")
    if found is None:
        raise WorkbenchError(
            f"Weighing for a microcontroller needs arm-none-eabi-{name} (on Debian: apt install gcc-arm-none-eabi)."
        )
    return found


def _compiler() -> str:
    named = os.environ.get("CC", "").split()
    found = next((path for name in (*named[:1], "cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if found is None:
        raise WorkbenchError("Running the C export needs a C compiler, such as gcc (on Debian: apt install gcc).")
    return found


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise WorkbenchError(f"The C compiler refused the model: {reason}")
    return done.stdout
