"""How the work of a look is cut into pieces.

On threads of this process, a piece is one row and one batch, about 20 ms, and the rows follow each other on the same
few images, whose activations are held. What goes to other processes is cut so that each of them gets several pieces of
a look, since the next look starts when the last piece is back: over the images first, as every piece runs the dense
network on its own, and over the rows where the images are few. Rows are dealt out by how long they take.

A piece starts a whole number of batches after the look, so that no cut changes what is run together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .cells import Piece, spans

#: Multiply-accumulates of a piece that goes to another process, at most or nearly so: about a second on one core,
#: which is how long it takes to be cancelled, and what is lost with a worker that dies.
FAR_PIECE = 40_000_000_000
#: And at least, about a fifth of a second: sending one and its answers takes some 10 ms of all processes together.
LEAST_PIECE = 8_000_000_000
#: A piece is at most what is left of the look over so many pieces for each worker: the first ones are large, as few as
#: can be, and the last ones small, so that the last of all keeps the others waiting for little.
EACH = 2
#: A piece's rows take so many times what the dense network takes, which every piece runs anew, at least.
OWN = 4


@dataclass(frozen=True)
class Load:
    """The ``columns`` of the row at ``place`` that a look runs, at ``macs`` for each of them and image."""

    place: int
    columns: tuple[int, ...]
    macs: int

    @property
    def work(self) -> int:
        """Multiply-accumulates for an image."""
        return max(1, self.macs) * len(self.columns)


def cut_here(loads: Sequence[Load], start: int, stop: int, batch: int, chunk: int) -> Iterator[Piece]:
    """Yield pieces for threads: those of all rows follow on ``chunk`` images, a multiple of ``batch``."""
    for span in spans(start, stop, chunk):
        for load in loads:
            for first, last in spans(*span, batch):
                yield Piece(((load.place, load.columns),), first, last)


def cut_for_others(
    loads: Sequence[Load], start: int, stop: int, batch: int, workers: int, trunk: int
) -> Iterator[Piece]:
    """Yield pieces for ``workers`` that share nothing; ``trunk``: multiply-accumulates of the dense network.

    >>> loads = [Load(0, (0, 1), 300_000_000), Load(1, (0,), 200_000_000)]
    >>> [(piece.first, piece.last) for piece in cut_for_others(loads, 64, 128, 32, 2, 400_000_000)]
    [(64, 96), (96, 128)]
    """
    if not loads:
        return
    an_image = sum(load.work for load in loads) + trunk
    first = start
    while first < stop:
        aim = min(FAR_PIECE, max(LEAST_PIECE, an_image * (stop - first) / (EACH * workers)))
        batches = max(1, int(aim / an_image / batch))
        last = min(stop, first + batches * batch)
        room = max(aim - trunk * batch, OWN * trunk * batch)  # for rows, in a piece of one batch
        parts = 1 if batches > 1 else math.ceil((an_image - trunk) * (last - first) / room)
        for part in _dealt(loads, min(parts, len(loads))):
            yield Piece(tuple((load.place, load.columns) for load in part), first, last)
        first = last


def _dealt(loads: Sequence[Load], parts: int) -> list[list[Load]]:
    """Return ``loads`` in ``parts`` of about the same work, each in order: the heaviest goes where least is so far."""
    dealt: list[list[Load]] = [[] for _ in range(parts)]
    work = [0] * parts
    for load in sorted(loads, key=lambda each: -each.work):
        part = work.index(min(work))
        dealt[part].append(load)
        work[part] += load.work
    return [sorted(part, key=lambda each: each.place) for part in dealt]
