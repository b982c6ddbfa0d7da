"""The figures where the two main sliders may go next, so that the page shows them at once.

A kernel cannot answer a moved slider before the page has asked, and in JupyterLab that alone takes as long as packing a
small model. So the size and the first sampled accuracy at the sliders' positions are found beforehand, in quiet
moments, and the page is given them: those that are one move away first.
"""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from workbench.techniques import Cost

from ..base.marks import marks_of
from .state import BITS, ControlsState, edited

if TYPE_CHECKING:
    from workbench.recipe import Recipe
    from workbench.session import Session
    from workbench.snapshot import Foreseen

#: The positions of "Pruning ratio", in per cent.
RATIOS = range(96)
#: A ratio and a bit-width that both do something: with them a recipe tells all that the other controls say.
MIDDLE = (50, 4)
#: One position as the page reads it, little-endian: ratio, place of the bit-width, images run (0 for none); bytes of
#: the packed file, of its entropy bound, of the runtime's file (0 where it is not known); the recipe's hash; accuracy
#: and the ends of its interval, in millionths; agreement, in ten-thousandths.
ENTRY = struct.Struct("<BBHIII8sIIIHxx")
#: Parts in which the page is told of positions that are one move away, and of those that are two.
PARTS = 4
#: The most bytes an entry can tell.
MOST = 2**32 - 1

Position = tuple[int, int]


def place_of(recipe: Recipe, state: ControlsState) -> str:
    """Return what tells the recipes of all positions of the two sliders from those under other settings."""
    try:
        return _moved(recipe, state, MIDDLE).hash
    except ValueError:  # settings that exclude each other: nothing is foreseen beside them
        return recipe.hash


class Ahead:
    """The positions of one ``place``; ``told`` is called with what the page needs whenever more are known."""

    def __init__(
        self, session: Session, recipe: Recipe, state: ControlsState, told: Callable[[dict[str, Any]], None]
    ) -> None:
        self._session = session
        self._recipe = recipe
        self._state = state
        self._tell = told
        self._hashes: dict[Position, str] = {}
        self._telling = threading.Lock()
        self._told: dict[Position, Foreseen] = {}

    def begin(self) -> None:
        """Have the figures found: first where one of the sliders moves alone."""
        here = self._state.ratio, self._state.bits
        every = [(ratio, bits) for ratio in RATIOS for bits in BITS]
        random.shuffle(every)  # pages of one model that find them at the same time leave each other's out
        near = [position for position in every if position[0] == here[0] or position[1] == here[1]]
        far = [position for position in every if position[0] != here[0] and position[1] != here[1]]
        groups = [positions[start::PARTS] for positions in (near, far) for start in range(PARTS)]
        self._session.look_ahead([partial(self._recipes, group) for group in groups], self._tell_more)

    def _recipes(self, positions: Iterable[Position]) -> Iterator[Recipe]:
        for position in positions:
            known = self._session.foreseen(self._hashes.get(position, ""))
            if known is not None and known.score is not None:
                continue
            try:
                recipe = _moved(self._recipe, self._state, position)
            except ValueError:  # of settings that exclude each other
                continue
            if recipe.cost is Cost.LIVE:
                self._hashes[position] = recipe.hash
                yield recipe

    def repeat(self) -> None:
        """Tell everything known again: a page that opens has heard nothing."""
        with self._telling:
            self._told.clear()
        self._tell_more()

    def _tell_more(self) -> None:
        """Tell what is known by now and was not told before."""
        with self._telling:
            found = [
                (position, recipe, foreseen)
                for position, recipe in list(self._hashes.items())
                if (foreseen := self._session.foreseen(recipe)) is not None and foreseen != self._told.get(position)
            ]
            more = bool(self._told)
            self._told |= {position: foreseen for position, _, foreseen in found}
            if found:
                self._tell(self._table(found, more))

    def _table(self, found: Sequence[tuple[Position, str, Foreseen]], more: bool) -> dict[str, Any]:
        """Return it as the page reads it; ``more``: to be added to what it was told before."""
        kinds = {foreseen.score.kind for _, _, foreseen in found if foreseen.score}
        accuracy = {
            "metric": "accuracy" if self._session.split.labelled else "agreement",
            "split": self._session.split.name,
            "kind": "exact" if kinds == {"exact"} else "sampled",
            "runtime": self._session.snapshot.runtime,
        }
        others = replace(self._state.tidied(), ratio=0, bits=0).to_page()
        sizes = [(one, one[2].size) for one in found]
        entries = b"".join(_entry(*one) for one, size in sizes if max(size.bytes, size.runtime_bytes or 0) <= MOST)
        told = {"session": marks_of(self._session).name, "others": others, "accuracy": accuracy, "more": more}
        return {**told, "entries": memoryview(entries)}


def _entry(position: Position, recipe: str, foreseen: Foreseen) -> bytes:
    size, score, (ratio, bits) = foreseen.size, foreseen.score, position
    shares = (0, 0, 0) if score is None else (score.value, score.low, score.high)
    return ENTRY.pack(
        ratio, BITS.index(bits), score.n if score else 0,
        size.bytes, size.entropy_bytes or 0, size.runtime_bytes or 0, bytes.fromhex(recipe),
        *(round(1e6 * share) for share in shares), round(1e4 * (foreseen.agreement or 0)),
    )  # fmt: skip


def _moved(recipe: Recipe, state: ControlsState, position: Position) -> Recipe:
    ratio, bits = position
    return edited(recipe, replace(state, ratio=ratio, bits=bits), ("ratio", "bits"))
