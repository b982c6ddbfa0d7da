"""A look's work is cut so that every cell runs every image once, in pieces that several workers can share."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.analyze.cutting import FAR_PIECE, LEAST_PIECE, Load, cut_for_others, cut_here

TRUNK, BATCH = 40_000_000, 32
#: The 22 layers of ResNet-20: what runs from a layer on is the less, the later it comes.
ALL = [Load(place, tuple(range(9)), TRUNK * (22 - place) // 22) for place in range(22)]


@pytest.mark.parametrize("loads", [ALL, ALL[5:6], [Load(3, (2,), TRUNK), Load(20, (0, 8), 1_000)]])
@pytest.mark.parametrize(("start", "stop"), [(0, 64), (64, 128), (512, 1024), (4096, 10_000), (0, 50)])
@pytest.mark.parametrize("workers", [0, 1, 2, 16])
def test_every_cell_runs_every_image_once_in_whole_batches(
    loads: list[Load], start: int, stop: int, workers: int
) -> None:
    if workers:
        pieces = list(cut_for_others(loads, start, stop, BATCH, workers, TRUNK))
    else:
        pieces = list(cut_here(loads, start, stop, BATCH, 4 * BATCH))
    ran = np.zeros((22, 9, stop), np.int64)
    for piece in pieces:
        for place, columns in piece.cells:
            ran[place, list(columns), piece.first : piece.last] += 1
    wanted = np.zeros_like(ran)
    for load in loads:
        wanted[load.place, list(load.columns), start:] = 1
    assert np.array_equal(ran, wanted)
    assert all((piece.first - start) % BATCH == 0 for piece in pieces)
    assert all(piece.last == stop or (piece.last - start) % BATCH == 0 for piece in pieces)


@pytest.mark.parametrize("loads", [ALL, ALL[5:6], ALL[::4]])
@pytest.mark.parametrize(("start", "stop"), [(0, 64), (512, 1024), (2048, 4096)])
def test_of_a_look_worth_sharing_two_workers_get_about_the_same(loads: list[Load], start: int, stop: int) -> None:
    pieces = list(cut_for_others(loads, start, stop, BATCH, 2, TRUNK))
    costs = {load.place: load.macs for load in loads}
    work = [
        (piece.last - piece.first) * (TRUNK + sum(costs[place] * len(columns) for place, columns in piece.cells))
        for piece in pieces
    ]
    whole = sum(work)
    busy = [0, 0]
    for each in work:  # whoever is free takes the next
        busy[busy.index(min(busy))] += each
    assert max(busy) <= 0.5 * whole + max(LEAST_PIECE, whole / 8)
    assert max(work) <= 1.2 * FAR_PIECE
    if len(pieces) > 1:
        assert whole / len(pieces) >= LEAST_PIECE / 3  # no crowd of tiny pieces either
