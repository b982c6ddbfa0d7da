"""What a model needs on a microcontroller, told before anything is compiled.

RAM is the arena, known to the byte, and the stack of the deepest call. Flash is the constants, known to the
byte, and code: the kernels in use, one call and one table of numbers for each operator, and the arithmetic
that rounds the input. The bytes of code and stack are GCC 12's for a Cortex-M4 at ``-Os``;
``compiled.weigh`` asks the compiler itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml

from .arena import Arena, plan_arena
from .program import Op, Program

#: Bytes of machine code, by kernel; ``inside`` is shared by those that slide a window.
KERNEL_CODE: Mapping[str, int] = {
    "conv": 440, "depthwise": 358, "linear": 138, "max_pool": 266, "average_pool": 196, "add": 102,
    "rescale": 92, "softmax": 192,
}  # fmt: skip
#: The helpers: all kernels round, and those that slide a window find its part inside the image.
ROUNDING_CODE, WINDOW_CODE = 128, 58
WINDOW_KERNELS = frozenset({"conv", "depthwise", "max_pool"})
CALL_CODE = 15
#: ``model_load`` and the floating-point routines that it brings on a core without such a unit.
LOADING_CODE = 1_630
#: Bytes of stack while a kernel runs, with what it calls; ``model_run`` is below it.
KERNEL_STACK: Mapping[str, int] = {
    "conv": 180, "depthwise": 148, "linear": 52, "max_pool": 108, "average_pool": 76, "add": 44, "rescale": 44,
    "softmax": 68,
}  # fmt: skip
RUNNING_STACK = 24


@dataclass(frozen=True)
class Footprint:
    """Bytes in flash and RAM."""

    flash: int
    ram: int
    arena: Arena


@dataclass(frozen=True)
class Board:
    """A microcontroller board: bytes of flash and RAM, and its core by GCC's name for it."""

    name: str
    chip: str
    cpu: str
    mhz: int
    flash: int
    ram: int
    source: str


@dataclass(frozen=True)
class Fit:
    """Whether a model fits on a board, and in words what is missing."""

    board: Board
    fits: bool
    reason: str


def footprint(program: Program) -> Footprint:
    """Return what ``program`` needs, in bytes."""
    arena = plan_arena(program)
    kinds = {op.kind for op in program.ops}
    helpers = ROUNDING_CODE + (WINDOW_CODE if kinds & WINDOW_KERNELS else 0)
    code = LOADING_CODE + helpers + sum(KERNEL_CODE[kind] for kind in kinds)
    calls = sum(CALL_CODE + _struct_bytes(op) for op in program.ops)
    stack = RUNNING_STACK + max((KERNEL_STACK[kind] for kind in kinds), default=0)
    return Footprint(program.constant_bytes + code + calls, arena.nbytes + stack, arena)


def fits(program: Program) -> list[Fit]:
    """Return for each board whether ``program`` fits there; what else the board runs is not counted."""
    needed = footprint(program)
    return [_fit(board, needed) for board in boards()]


@cache
def boards() -> tuple[Board, ...]:
    """Return the boards that are known, smallest first."""
    text = (resources.files("workbench.deploy.microcontroller") / "boards.yaml").read_text(encoding="utf-8")
    known = [Board(**{**entry, "flash": entry["flash"] * 1024, "ram": entry["ram"] * 1024}) for entry in _load(text)]
    return tuple(sorted(known, key=lambda board: (board.ram, board.flash)))


def _load(text: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = yaml.safe_load(text)
    return entries


def _fit(board: Board, needed: Footprint) -> Fit:
    lacking = [
        f"{(need - have + 1023) // 1024} kB of {what} too little"
        for what, need, have in (("flash", needed.flash, board.flash), ("RAM", needed.ram, board.ram))
        if need > have
    ]
    if lacking:
        return Fit(board, False, " and ".join(lacking))
    shares = f"{needed.flash / board.flash:.0%} of the flash and {needed.ram / board.ram:.0%} of the RAM"
    return Fit(board, True, f"uses {shares}")


def _struct_bytes(op: Op) -> int:
    return 4 * (len(op.numbers) + len(op.tables))
