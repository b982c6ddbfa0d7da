"""How each part of a comparison is found: from a Pair of settings to plain data, on a Job's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.analyze.compare import answers_of

from . import parts

if TYPE_CHECKING:
    from workbench.analyze.behaviour import Pair

    from ..examples.pixels import Palette

#: Above so many classes a whole matrix is not sent, only the confusions that grew most.
WHOLE_MATRIX = 40
#: Confusions told, and flipped images offered for a closer look, at most.
TOLD, PICKED = 12, 40

Check = Callable[[], None]
Follow = Callable[[float], None]


@dataclass(frozen=True)
class Wish:
    """What is to be found: a part, of which pair of settings, and for attributions of which image and how.

    ``target`` is the class asked about, -1 for the true one.
    """

    part: str
    before: str
    after: str
    image: int = -1
    target: int = -1
    method: str = ""


@dataclass(frozen=True)
class Found:
    """What a part is drawn from: plain data, and the arrays behind pictures. ``whole``: nothing more will come."""

    data: dict[str, Any]
    maps: bytes = b""
    pixels: bytes = b""
    whole: bool = True


def find(wish: Wish, pair: Pair, palette: Palette, check: Check, follow: Follow) -> Iterator[Found]:
    """Yield what is found, each time more of it."""
    match wish.part:
        case "classes":
            yield Found(parts.class_rows(pair.classes()))
        case "confusion":
            yield Found(_confusion(pair))
        case "calibration":
            yield Found(parts.reliability(*pair.calibration(check, follow)))
        case "teacher":
            yield Found(parts.teacher_rows(pair.teacher(check, follow)))
        case "drift":
            yield Found(parts.drift_rows(pair.drift(check)))
        case "attribution":
            yield _attribution(wish, pair, palette)
        case _:
            rows = []
            for row in pair.robustness(check):
                rows.append(row)
                follow(len(rows) / 13)
                yield Found({"rows": parts.corruption_rows(rows)}, whole=False)
            yield Found({"rows": parts.corruption_rows(rows)})


def picks_of(pair: Pair) -> list[int]:
    """Return images worth a closer look: those lost, then those won; the first ones where none flipped."""
    labels = pair.session.split.labels.numpy()
    before, after = (answers_of(pair.session, recipe) == labels for recipe in (pair.before, pair.after))
    if not pair.session.split.labelled:  # which is right is not known, so all that changed are shown
        one, other = (answers_of(pair.session, recipe) for recipe in (pair.before, pair.after))
        before, after = one != other, np.zeros(len(labels), np.bool_)
    flipped = [*np.flatnonzero(before & ~after), *np.flatnonzero(after & ~before)]
    return [int(image) for image in (flipped or range(len(labels)))[:PICKED]]


def _confusion(pair: Pair) -> dict[str, Any]:
    before, after = pair.confusion()
    moved = after - before
    np.fill_diagonal(moved, 0)
    order = np.argsort(-np.abs(moved), axis=None, kind="stable")[:TOLD]
    told = [
        [int(truth), int(answer), int(before[truth, answer]), int(after[truth, answer])]
        for truth, answer in zip(*np.unravel_index(order, moved.shape), strict=True)
        if moved[truth, answer]
    ]
    small = len(before) <= WHOLE_MATRIX
    return {
        "told": told,
        "before": before.tolist() if small else None,
        "after": after.tolist() if small else None,
    }


def _attribution(wish: Wish, pair: Pair, palette: Palette) -> Found:
    split = pair.session.split
    image, label = split.images[wish.image], int(split.labels[wish.image])
    answers = [int(answers_of(pair.session, recipe)[wish.image]) for recipe in (pair.before, pair.after)]
    truth = label if split.labelled else answers[0]
    found = pair.attribute(image, truth if wish.target < 0 else wish.target, wish.method)
    height, width = found.before.shape
    pixels = palette.picture(image, max(height, width))
    facts = parts.attribution_facts(found)
    data = {**facts, "image": wish.image, "label": label, "answers": answers, "pixels": list(pixels.shape)}
    return Found(data, np.stack([found.before, found.after]).astype(np.float32).tobytes(), pixels.tobytes())


def of_image(wish: Wish, image: int, target: int, method: str) -> Wish:
    """Return ``wish`` for one image and method."""
    return replace(wish, image=image, target=target, method=method)
