"""The C files of a model compiled: run on this machine or on an emulated microcontroller, and weighed.

Running here needs a C compiler (``cc``, ``gcc`` or ``clang``, or the one that ``CC`` names). Weighing for
a Cortex-M needs ``arm-none-eabi-gcc``, which Debian and Ubuntu have as ``gcc-arm-none-eabi``; running on an
emulated one ``qemu-system-arm`` besides, and the C library ``libnewlib-arm-none-eabi``.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workbench.deploy.format import FormatError
from workbench.run.runner import Stopped

_WARNINGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic")
#: How code for a board is compiled: for size, and only the kernels in use.
_SMALL = ("-Os", "-ffunction-sections", "-fdata-sections", "-fstack-usage")
_ARM = ("-mthumb", "-std=c99")


@dataclass(frozen=True)
class Weight:
    """Bytes of a compiled model: ``flash`` (code and constants) and ``ram`` (static buffers and stack)."""

    flash: int
    ram: int


class CompiledModel:
    """The C files beside ``path`` (the model's ``.c``) as code of this machine; a ``Runner``."""

    runtime = "c99"

    def __init__(self, path: Path) -> None:
        """Compile; raises ``FormatError`` where there is no C compiler, or it refused the files."""
        self._header = _read_header(path)
        self._stopped = False
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "model.so"
            _run([compiler(), *_WARNINGS, "-O3", "-fPIC", "-shared", *_sources(path), "-o", str(library)])
            self._library = ctypes.CDLL(str(library))  # stays loaded when the file is gone
        self._library.model_run.restype = ctypes.POINTER(ctypes.c_uint8)

    def codes(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the output's codes ``(N, outputs)`` for normalised ``images`` ``(N, C, H, W)``."""
        rows = np.ascontiguousarray(images, np.float32).reshape(len(images), -1)
        found = np.empty((len(images), int(self._header["OUTPUT_SIZE"])), np.uint8)
        for row, image in enumerate(rows):
            if self._stopped:
                raise Stopped
            self._library.model_load(image.ctypes.data_as(ctypes.POINTER(ctypes.c_float)))
            found[row] = np.ctypeslib.as_array(self._library.model_run(), found[row].shape)
        return found

    def logits(self, images: Tensor) -> NDArray[np.float32]:
        """Return the real values of the output's codes."""
        codes = self.codes(images.numpy()).astype(np.float32)
        real: NDArray[np.float32] = (codes - np.float32(self._header["OUTPUT_ZERO"])) * np.float32(
            self._header["OUTPUT_SCALE"]
        )
        return real

    def stop(self) -> None:
        """Give up at the next image."""
        self._stopped = True


class EmulatedModel:
    """The C files beside ``path`` on a Cortex-M4 that QEMU emulates (its board ``mps2-an386``).

    Its answers are those of the instructions a real one would run; its time says nothing of a real one's.
    """

    def __init__(self, path: Path) -> None:
        """Compile; raises ``FormatError`` where the compiler or the emulator is missing."""
        emulator = shutil.which("qemu-system-arm")
        if emulator is None:
            raise FormatError("Emulating a microcontroller needs qemu-system-arm (on Debian: apt install it).")
        self._outputs = int(_read_header(path)["OUTPUT_SIZE"])
        firmware = path.with_suffix(".elf")
        with resources.as_file(resources.files("workbench.deploy.microcontroller") / "emulated_board") as board:
            header = f'-DMODEL_HEADER="{path.with_suffix(".h").name}"'
            sources = [*_sources(path), header, f"-I{path.parent}", str(board / "main.c"), str(board / "start.c")]
            layout = ["-T", str(board / "mps2.ld"), "--specs=rdimon.specs"]
            _run([_arm("gcc"), "-mcpu=cortex-m4", *_ARM, "-O2", *sources, *layout, "-o", str(firmware)])
        machine = ["-M", "mps2-an386", "-nographic", "-monitor", "none", "-serial", "none"]
        console = ["-semihosting-config", "enable=on,target=native"]  # its standard input and output are ours
        self._command = [emulator, *machine, *console, "-kernel", str(firmware)]

    def codes(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the output's codes ``(N, outputs)`` for normalised ``images`` ``(N, C, H, W)``."""
        data = np.ascontiguousarray(images, np.float32).tobytes()
        answer = subprocess.run(self._command, input=data, capture_output=True, check=False)
        codes = np.frombuffer(answer.stdout, np.uint8)
        if answer.returncode or codes.size != len(images) * self._outputs:
            raise FormatError(f"The emulated model ended with status {answer.returncode}.")
        return codes.reshape(len(images), self._outputs)


def weigh(path: Path, cpu: str = "cortex-m4") -> Weight:
    """Return what the C files beside ``path`` take, compiled for ``cpu`` (a name GCC's ``-mcpu`` knows).

    A board's start and C library are not in it: they come on top, and are the same for every model.
    Raises ``FormatError`` where there is no compiler for Arm microcontrollers, or it refused the files.
    """
    with tempfile.TemporaryDirectory() as folder:
        linked = Path(folder) / "model.elf"
        roots = [f"-Wl,--undefined={name}" for name in ("model_load", "model_run")]
        end = ["-nostartfiles", "-Wl,--gc-sections", "-Wl,--entry=model_run", *roots, "-lgcc", "-o", str(linked)]
        _run([_arm("gcc"), f"-mcpu={cpu}", *_ARM, *_WARNINGS, *_SMALL, *_sources(path), *end])
        report = _run([_arm("size"), str(linked)]).splitlines()[1].split()
        text, data, bss = map(int, report[:3])
        return Weight(flash=text + data, ram=data + bss + _stack(linked))


def _stack(linked: Path) -> int:
    """Return the bytes of stack of the deepest call, as GCC counted them: ``model_run``, a kernel, its helper."""
    symbols = _run([_arm("nm"), str(linked)]).split()
    used: dict[str, int] = {}
    for report in linked.parent.glob("*.su"):
        for line in report.read_text(encoding="utf-8").splitlines():
            place, nbytes, _ = line.split("\t")
            used[place.rsplit(":", 1)[1]] = int(nbytes)
    kernels = [nbytes for name, nbytes in used.items() if name.startswith("cwb_") and name in symbols]
    helpers = [used.get(name, 0) for name in ("scaled", "inside") if name in symbols]
    return used["model_run"] + max(kernels, default=0) + max(helpers, default=0)


def compiler() -> str:
    """Return the path of this machine's C compiler; raises ``FormatError`` where there is none."""
    named = os.environ.get("CC", "").split()
    found = next((path for name in (*named[:1], "cc", "gcc", "clang") if (path := shutil.which(name))), None)
    if found is None:
        raise FormatError("Running the C export needs a C compiler, such as gcc (on Debian: apt install gcc).")
    return found


def _arm(tool: str) -> str:
    found = shutil.which(f"arm-none-eabi-{tool}")
    if found is None:
        raise FormatError(
            f"Compiling for a microcontroller needs arm-none-eabi-{tool} (on Debian: apt install gcc-arm-none-eabi "
            "libnewlib-arm-none-eabi)."
        )
    return found


def _sources(path: Path) -> list[str]:
    return [str(path), str(path.with_name("cwb_kernels.c"))]


def _read_header(path: Path) -> dict[str, float]:
    """Return the numbers that the model's header defines, without their prefix."""
    try:
        text = path.with_suffix(".h").read_text(encoding="utf-8")
    except OSError as error:
        raise FormatError(f"'{path.with_suffix('.h')}' cannot be read: {error.strerror}.") from error
    return {name: float(number) for name, number in re.findall(r"^#define MODEL_(\w+) ([-\d.e]+)f?$", text, re.M)}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise FormatError(f"The C compiler refused the model: {reason}")
    return done.stdout
