"""The C files of a Program: its constants, the order of its kernels, and its one buffer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workbench.data.dataset import Normalization

from .arena import Arena, plan_arena
from .program import Op, Program, Value

#: The files that are the same for every model.
KERNELS = ("cwb_kernels.h", "cwb_kernels.c")

_C_TYPES = {np.dtype(np.int8): "int8_t", np.dtype(np.uint8): "uint8_t", np.dtype(np.int32): "int32_t"}


def write_source(
    program: Program, folder: Path, stem: str = "model", normalization: Normalization | None = None
) -> tuple[Path, ...]:
    """Write the C files into ``folder``; equal Programs give equal bytes.

    Returns the model's ``stem.c``, its ``stem.h``, and the kernels. ``normalization`` is told in the header,
    since the model's input is normalised pixels. Raises ``OSError`` where the folder cannot be written.
    """
    arena = plan_arena(program)
    kernels = resources.files("workbench.deploy.microcontroller") / "kernels"
    texts = {
        f"{stem}.c": _model(program, arena, stem),
        f"{stem}.h": _header(program, arena, stem, normalization),
        **{file: (kernels / file).read_text(encoding="utf-8") for file in KERNELS},
    }
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    return tuple(folder / file for file in texts)


def _header(program: Program, arena: Arena, stem: str, normalization: Normalization | None) -> str:
    source, result = program.values[program.input], program.values[program.output]
    told = "as the model was trained"
    if normalization is not None:
        told = f"(pixel / 255 - mean) / std with mean {list(normalization.mean)} and std {list(normalization.std)}"
    return f"""\
/* {_comment(stem)}: integer inference in C99. Compile {_comment(stem)}.c and cwb_kernels.c.
 *
 * Input: one image, shape {list(source.shape)}, normalised: {told}.
 */
#ifndef CWB_MODEL_H
#define CWB_MODEL_H

#include <stdint.h>

#define MODEL_INPUT_SIZE {source.nbytes}
#define MODEL_INPUT_SCALE {source.scale!r}f
#define MODEL_INPUT_ZERO {source.zero_point}
#define MODEL_OUTPUT_SIZE {result.nbytes}
#define MODEL_OUTPUT_SCALE {result.scale!r}f
#define MODEL_OUTPUT_ZERO {result.zero_point}
/* All memory that the values need; it is one static buffer. */
#define MODEL_ARENA_BYTES {arena.nbytes}

/* Where the codes of the input go; running the model may overwrite them. */
uint8_t *model_input(void);

/* Round normalised values to the input's codes. */
void model_load(const float image[MODEL_INPUT_SIZE]);

/* Run the model; the output's codes stay valid until the next call. */
const uint8_t *model_run(void);

#endif
"""


def _model(program: Program, arena: Arena, stem: str) -> str:
    lines = [f'#include "{stem}.h"', '#include "cwb_kernels.h"', "", "static uint8_t arena[MODEL_ARENA_BYTES];", ""]
    calls = []
    for step, op in enumerate(program.ops):
        if _is_nothing(op, program, arena):
            continue
        lines.extend(_constants(step, op))
        places = ", ".join(f"arena + {arena.offsets[name]}" for name in (*op.inputs, op.output))
        calls.append(f"    cwb_{op.kind}(&op{step}, {places});")
    lines += [
        f"uint8_t *model_input(void) {{ return arena + {arena.offsets[program.input]}; }}",
        "",
        "void model_load(const float image[MODEL_INPUT_SIZE]) {",
        "    uint8_t *codes = model_input();",
        "    for (int32_t i = 0; i < MODEL_INPUT_SIZE; i++) {",
        "        float value = image[i] / MODEL_INPUT_SCALE + MODEL_INPUT_ZERO;",
        "        int32_t code = value <= 0 ? 0 : value >= 255 ? 255 : (int32_t)(value + 0.5f);",
        "        codes[i] = (uint8_t)code;",
        "    }",
        "}",
        "",
        "const uint8_t *model_run(void) {",
        *calls,
        f"    return arena + {arena.offsets[program.output]};",
        "}",
        "",
    ]
    return "\n".join(lines)


def _is_nothing(op: Op, program: Program, arena: Arena) -> bool:
    """Whether an operator copies a value onto itself: a reshape whose input nobody needs after it."""
    if op.kind != "rescale" or arena.offsets[op.inputs[0]] != arena.offsets[op.output]:
        return False
    before, after = program.values[op.inputs[0]], program.values[op.output]
    whole = op.numbers["low"] == 0 and op.numbers["high"] == 255
    return whole and _grid(before) == _grid(after)


def _grid(value: Value) -> tuple[float, int]:
    return value.scale, value.zero_point


def _constants(step: int, op: Op) -> Iterator[str]:
    if op.layer:
        yield f"/* {_comment(op.layer)} */"
    for name, table in op.tables.items():
        yield f"static const {_C_TYPES[table.dtype]} op{step}_{name}[{table.size}] = {{"
        yield from _rows(table)
        yield "};"
    fields = [f".{name} = {number}" for name, number in op.numbers.items()]
    fields += [f".{name} = op{step}_{name}" for name in op.tables]
    yield f"static const cwb_{op.kind}_t op{step} = {{{', '.join(fields)}}};"
    yield ""


def _rows(table: NDArray[np.generic], width: int = 24) -> Iterator[str]:
    numbers = table.reshape(-1).tolist()
    for start in range(0, len(numbers), width):
        yield "    " + ", ".join(map(str, numbers[start : start + width])) + ","


def _comment(text: str) -> str:
    """Return ``text`` so that it cannot end a C comment."""
    return re.sub(r"[^\w .,/:-]", "_", text).replace("*/", "__")
