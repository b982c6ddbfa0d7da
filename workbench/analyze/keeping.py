"""What a sweep goes on from: an earlier Sensitivity, kept as bytes by the history.

The bytes hold the figures and the images' answers, in NumPy's ``.npz`` with a header in JSON; nothing in it is
unpickled. Of cells that are exact or unknown no answers are kept.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from workbench.errors import WorkbenchError
from workbench.measure.estimate import Estimate
from workbench.measure.shares import Interval

from .finding import ANSWERS, Answered, Question, Sensitivity

if TYPE_CHECKING:
    from workbench.history import Key
    from workbench.session import Session

FORMAT = 1
#: What the history files a sweep under.
KIND = "sensitivity"
#: Seconds from one writing to the next, at least, and in relation to how long the last one took.
PACE, PATIENCE = 1.0, 10.0


def question_text(question: Question) -> str:
    """Return the text under which the history keeps what is known of ``question``.

    It rests on the recipes' hashes, so that what was calibrated otherwise is not taken for the same.
    """
    recipe = question.recipe(question.layers[0], question.levels[-1]).hash
    plain = json.dumps([asdict(question), recipe], sort_keys=True, default=str)
    digest = hashlib.sha256(plain.encode()).hexdigest()[:16]
    return f"{question.technique} {question.setting} {question.mode} {digest}"


def _key(session: Session, question: Question) -> Key:
    """Return what a sweep belongs to: one whose recipes learn, to what they learn from as well."""
    return session.key_of(question.recipe(question.layers[0], question.levels[-1]))


def recall(session: Session, question: Question) -> Sensitivity | None:
    """Return what the session's history keeps of ``question``, or None; what is damaged is as if it were not there."""
    try:
        kept = session.history.finding(_key(session, question), KIND, question_text(question))
        found = unpack_sensitivity(kept.payload) if kept else None
    except WorkbenchError:
        return None
    return found if found is not None and found.question == question else None


def recall_all(session: Session, seen: set[tuple[str, float]] | None = None) -> list[Sensitivity]:
    """Return the sweeps that the session's history keeps, the latest first; what is ``seen`` is left out, and noted."""
    seen = set() if seen is None else seen
    found = []
    try:
        kept = [(key, finding) for key in session.keys for finding in session.history.findings(key, KIND)]
    except WorkbenchError:
        return []
    for key, finding in sorted(kept, key=lambda each: each[1].time, reverse=True):
        if (finding.question, finding.time) in seen:
            continue
        seen.add((finding.question, finding.time))
        try:
            each = unpack_sensitivity(finding.payload)
            if question_text(each.question) == finding.question and _key(session, each.question) == key:
                found.append(each)
        except WorkbenchError:  # of another version, damaged, or of a technique that is no more
            continue
    return found


class Keeper:
    """Writes a sweep to the history as it comes, so that a process that is killed loses a second or two of it."""

    def __init__(self, session: Session, question: Question) -> None:
        self._session, self._text, self._question = session, question_text(question), question
        self._next = time.monotonic() + PACE
        self.trouble = ""

    def note(self, found: Sensitivity, state: str) -> None:
        """Write what is known, where enough time has passed or the sweep is over (``state`` not ``running``)."""
        start = time.monotonic()
        if state == "running" and start < self._next:
            return
        try:
            content = pack_sensitivity(found)
            key = _key(self._session, self._question)
            self._session.history.keep_finding(key, KIND, self._text, content, done=state == "done")
            self.trouble = ""
        except WorkbenchError as error:
            self.trouble = f"The sweep is not being kept: {error}"
        end = time.monotonic()
        self._next = end + max(PACE, PATIENCE * (end - start))


def pack_sensitivity(found: Sensitivity) -> bytes:
    """Return ``found`` as bytes."""
    question = found.question
    header = {
        "format": FORMAT,
        "question": {
            "technique": question.technique, "setting": question.setting, "levels": list(question.levels),
            "layers": list(question.layers), "settings": dict(question.settings), "mode": question.mode,
            "groups": [list(group) for group in question.groups],
        },
        "baseline": found.baseline.to_json(),
        "loss": found.loss,
        "power": found.power,
        "labelled": found.labelled,
        "ranked": found.order,
        "allowance": found.allowance,
        "order": found.answers.order if found.answers else None,
        "images": len(found.answers.power) if found.answers else 0,
    }  # fmt: skip
    arrays: dict[str, Any] = {name: getattr(found, name) for name in ("value", "low", "high", "n")}
    arrays |= {} if found.places is None else {"places": found.places}
    arrays |= {f"measured.{name}": np.stack(entry) for name, entry in found.measured.items()}
    if found.answers is not None:
        cells = _partly(found)
        used = max((n for *_, n in cells), default=0)
        arrays["power"] = found.answers.power[:used]
        for name, values in found.answers.arrays.items():
            parts = [values[row, column, :n] for row, column, n in cells]
            flat = np.concatenate(parts) if parts else values[0, 0, :0]
            arrays[f"answers.{name}"] = np.packbits(flat) if flat.dtype == np.bool_ else flat
    file = io.BytesIO()
    header_bytes = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez_compressed(file, header=header_bytes, **arrays)
    return file.getvalue()


def unpack_sensitivity(content: bytes) -> Sensitivity:
    """Return what ``pack_sensitivity`` packed; raises ``WorkbenchError`` where it is damaged or newer."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            if header["format"] > FORMAT:
                raise WorkbenchError("A kept sweep is of a newer version of the workbench, so it is measured anew.")
            return _read(header, {name: arrays[name] for name in arrays.files})
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile) as error:
        if isinstance(error, WorkbenchError):
            raise
        raise WorkbenchError("A kept sweep cannot be read, so it is measured anew.") from error


def _read(header: dict[str, Any], arrays: dict[str, Any]) -> Sensitivity:
    fields = dict(header["question"])
    fields |= {name: tuple(fields[name]) for name in ("levels", "layers")}
    fields["groups"] = tuple(tuple(group) for group in fields["groups"])
    prefix = "measured."
    measured = {name.removeprefix(prefix): Interval(*values) for name, values in arrays.items() if prefix in name}
    figures = {name: arrays[name] for name in ("value", "low", "high", "n")}
    baseline = Estimate(**header["baseline"])
    found = Sensitivity(
        Question(**fields), baseline, measured=measured, loss=header["loss"], power=header["power"],
        labelled=header.get("labelled", True), order=header.get("ranked"), places=arrays.get("places"),
        allowance=header.get("allowance", 0.0), **figures,
    )  # fmt: skip
    if header["order"] is None:
        return found
    return replace(found, answers=_answers(found, header, arrays))


def _answers(found: Sensitivity, header: dict[str, Any], arrays: dict[str, Any]) -> Answered:
    rows, columns = found.n.shape
    answers = Answered.blank((rows, columns), header["images"], header["order"])
    answers.power[: len(arrays["power"])] = arrays["power"]
    cells = _partly(found)
    for name in ANSWERS:
        flat = arrays[f"answers.{name}"]
        if answers.arrays[name].dtype == np.bool_:
            flat = np.unpackbits(flat)[: sum(n for *_, n in cells)].astype(np.bool_)
        ends = np.cumsum([n for *_, n in cells])
        for (row, column, n), end in zip(cells, ends, strict=True):
            answers.arrays[name][row, column, :n] = flat[end - n : end]
    return answers


def _partly(found: Sensitivity) -> list[tuple[int, int, int]]:
    """Return row, column and images of the cells that rest on some of the images."""
    rows, columns = np.nonzero((found.n > 0) & (found.n < found.total))
    return [(int(row), int(column), int(found.n[row, column])) for row, column in zip(rows, columns, strict=True)]


def take_over(found: Sensitivity, before: Sensitivity, looks: tuple[int, ...], same: NDArray[np.bool_]) -> Sensitivity:
    """Fill ``found`` with what ``before`` measured of the same recipes: exact figures, and others with their answers.

    Only what rests on one of ``looks`` and on the same images is taken; cells that are ``same`` as the dense model
    are left alone.
    """
    mine, kept = found.answers, before.answers
    if not before.question.fits(found.question) or before.baseline != found.baseline or mine is None:
        return found
    if kept is not None and kept.order != mine.order:
        kept = None
    for place, column in np.argwhere(~same):
        layer, level = found.layers[place], found.levels[column]
        if layer not in before.layers or level not in before.levels:
            continue
        there = before.layers.index(layer), before.levels.index(level)
        n = int(before.n[there])
        if n in looks and (n == found.total or kept is not None):
            _take_cell(found, before, (int(place), int(column)), there)
            if kept is not None and n < found.total:
                for name in ANSWERS:
                    mine.arrays[name][place, column, :n] = kept.arrays[name][there][:n]
    if kept is None:
        return found
    mine.power[: len(kept.power)] = kept.power
    return replace(found, power=before.power)


def _take_cell(found: Sensitivity, before: Sensitivity, mine: tuple[int, int], theirs: tuple[int, int]) -> None:
    for name in ("value", "low", "high", "n"):
        getattr(found, name)[mine] = getattr(before, name)[theirs]
    for name in found.measured.keys() & before.measured.keys():
        for part, other in zip(found.measured[name], before.measured[name], strict=True):
            part[mine] = other[theirs]
