"""Where each value lies in one buffer, so that values that are never alive together share memory.

Greedy by size, as TensorFlow Lite for Microcontrollers plans its arena (Pisarchyk & Lee 2020, "Efficient
Memory Management for Deep Neural Net Inference"): the largest value first, each at the lowest place
where it meets no value alive at the same time. An operator that works element by element writes over
the input that nobody needs after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .program import Program


@dataclass(frozen=True)
class Arena:
    """``offsets``: each value's first byte. ``nbytes``: the buffer. ``least``: no plan can need less.

    ``busiest`` names the operator during which the most bytes are alive, by its output.
    """

    offsets: Mapping[str, int]
    nbytes: int
    least: int
    busiest: str


@dataclass
class _Room:
    """One or more values in the same bytes, one after the other; steps are counted from the first operator."""

    names: list[str]
    nbytes: int
    first: int
    last: int


def plan_arena(program: Program) -> Arena:
    """Return where the values of ``program`` lie; its input and output lie there too."""
    rooms = _rooms(program)
    offsets: dict[str, int] = {}
    placed: list[tuple[int, _Room]] = []
    for room in sorted(rooms, key=lambda room: (-room.nbytes, room.first)):
        offset = 0
        together = [(at, other) for at, other in placed if other.first <= room.last and room.first <= other.last]
        for at, other in sorted(together, key=lambda entry: entry[0]):
            if offset + room.nbytes <= at:
                break
            offset = max(offset, at + other.nbytes)
        placed.append((offset, room))
        offsets.update(dict.fromkeys(room.names, offset))
    alive = [sum(room.nbytes for room in rooms if room.first <= step <= room.last) for step in range(len(program.ops))]
    least = max(alive, default=program.values[program.input].nbytes)
    busiest = program.ops[alive.index(least)].output if alive else program.input
    return Arena(offsets, max(at + room.nbytes for at, room in placed), least, busiest)


def _rooms(program: Program) -> list[_Room]:
    last = {program.input: 0}
    for step, op in enumerate(program.ops):
        for name in (*op.inputs, op.output):
            last[name] = step
    last[program.output] = len(program.ops)
    rooms = {program.input: _Room([program.input], program.values[program.input].nbytes, 0, last[program.input])}
    for step, op in enumerate(program.ops):
        if op.output in rooms:  # written piece by piece
            continue
        nbytes = program.values[op.output].nbytes
        ending = [
            name for name in op.inputs if op.in_place and last[name] == step and program.values[name].nbytes == nbytes
        ]
        if ending:
            room = rooms[op.output] = rooms[ending[0]]
            room.names.append(op.output)
            room.last = last[op.output]
        else:
            rooms[op.output] = _Room([op.output], nbytes, step, last[op.output])
    return list({id(room): room for room in rooms.values()}.values())
