"""Every setting tried with one model on one split, gathered from the history and from the Snapshots.

The history knows the settings measured on the whole split, in this session and before. The Snapshots
add those that were left while still being sampled. One setting is one ``Trial``: what is exact takes
the place of what was sampled, never the other way round.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, replace
from functools import cached_property
from math import isnan, nan
from typing import TYPE_CHECKING, Any

from workbench.measure.estimate import Estimate, Latency
from workbench.recipe import Recipe

from ..base.words import in_words

if TYPE_CHECKING:
    from workbench.history import Record
    from workbench.snapshot import Snapshot


@dataclass(frozen=True)
class Trial:
    """One setting and its figures; ``recipe`` is its JSON, ``when`` seconds since 1970.

    ``score`` is the accuracy, or the agreement with the dense model where the images have no labels.
    ``latency`` has no interval (``low`` and ``high`` are NaN) where only the history knows it.
    ``parent`` is the hash of the setting it was reached from. ``mine``: tried in this session. ``identity`` is its
    number in the history, None while it is not there; a person may give it a ``name``, star and delete it.
    """

    recipe_hash: str
    recipe: str
    score: Estimate
    bytes: int
    latency: Latency | None
    measured_ms: float | None
    when: float
    parent: str | None = None
    mine: bool = False
    runtime_bytes: int | None = None
    loss: float | None = None
    agreement: float | None = None
    identity: int | None = None
    name: str = ""
    starred: bool = False
    deleted: bool = False

    @property
    def exact(self) -> bool:
        """Whether the whole split was run."""
        return self.score.kind == "exact"

    def is_within(self, scope: str) -> bool:
        """Return whether it is of ``session``, ``starred``, or of ``all``."""
        return {"session": self.mine, "starred": self.starred}.get(scope, True)

    @cached_property
    def words(self) -> str:
        """The recipe in a few words."""
        return in_words(json.loads(self.recipe))


class Trials:
    """The settings tried so far, each with a place that stays; safe to use from several threads.

    Every change is noted in a log, so that a page need only be told what is new.
    """

    def __init__(self, split: str) -> None:
        self._split = split
        self._lock = threading.Lock()
        self._places: dict[str, int] = {}
        self._trials: list[Trial] = []
        self._log: list[int] = []
        self._hashes: dict[int, str] = {}
        self._last_record = 0
        self._present: Trial | None = None

    @property
    def last_record(self) -> int:
        """The largest id of a record seen: what to ask the history for is what comes after."""
        return self._last_record

    @property
    def all(self) -> tuple[Trial, ...]:
        """All settings, each at its place."""
        with self._lock:
            return tuple(self._trials)

    def place(self, recipe_hash: str | None) -> int:
        """Return a setting's place, or -1."""
        return self._places.get(recipe_hash or "", -1)

    def words_of(self, recipe_hash: str) -> str:
        """Return a setting's words, which are kept from then on; empty for one that is not here."""
        place = self.place(recipe_hash)
        return self._trials[place].words if place >= 0 else ""

    def changes(self, since: int) -> tuple[int, list[int]]:
        """Return the log's length, and the places that changed after its first ``since`` entries."""
        with self._lock:
            return len(self._log), list(dict.fromkeys(self._log[since:]))

    def add_records(self, records: list[Record]) -> None:
        """Take up settings from the history."""
        with self._lock:
            for record in records:
                identity = record.id or 0
                self._last_record = max(self._last_record, identity)
                self._hashes[identity] = record.recipe_hash
                self._put(self._from_record(record))

    def mark(self, place: int, **changes: Any) -> None:
        """Change a setting's name, star or deletion."""
        with self._lock:
            self._trials[place] = replace(self._trials[place], **changes)
            self._log.append(place)

    def note(self, snapshot: Snapshot) -> None:
        """Remember the newest figures of the setting at work; one that was left joins the settings."""
        trial = trial_of(snapshot)
        with self._lock:
            left = self._present
            if left is not None and left.recipe_hash != snapshot.recipe_hash:
                self._put(left)
                self._present = None
            if trial is not None:
                self._present = trial
                if trial.exact:
                    self._put(trial)

    def _put(self, new: Trial) -> None:
        place = self._places.get(new.recipe_hash)
        if place is None:
            self._places[new.recipe_hash] = place = len(self._trials)
            self._trials.append(new)
        else:
            merged = _merge(self._trials[place], new)
            if merged == self._trials[place]:
                return
            self._trials[place] = merged
        self._log.append(place)

    def _from_record(self, record: Record) -> Trial:
        ms = record.latency_ms
        return Trial(
            recipe_hash=record.recipe_hash,
            recipe=record.recipe,
            score=Estimate.exact(record.score, record.n, self._split),
            bytes=record.bytes,
            latency=None if ms is None else Latency("", "", 1, ms, nan, nan, "predicted"),
            measured_ms=record.measured_ms,
            when=record.time,
            parent=self._hashes.get(record.parent or 0),
            runtime_bytes=record.runtime_bytes,
            loss=record.loss,
            agreement=record.agreement,
            identity=record.id,
            name=record.name,
            starred=record.starred,
            deleted=record.deleted is not None,
        )


def trial_of(snapshot: Snapshot, recipe: Recipe | None = None) -> Trial | None:
    """Return the setting of ``snapshot`` with its figures so far, or None while it has none."""
    recipe = recipe or snapshot.recipe
    if snapshot.score is None or snapshot.size is None or snapshot.error:
        return None
    measured = snapshot.measured_latency
    return Trial(
        recipe_hash=recipe.hash,
        recipe=recipe.to_json(),
        score=snapshot.score,
        bytes=snapshot.size.bytes,
        latency=snapshot.latency,
        measured_ms=measured.ms if measured else None,
        when=time.time(),
        mine=True,
        runtime_bytes=snapshot.size.runtime_bytes,
        loss=snapshot.loss.value if snapshot.loss else None,
        agreement=snapshot.agreement.value if snapshot.agreement else None,
    )


#: Figures that one account of a setting may lack.
_LATE = ("measured_ms", "runtime_bytes", "loss", "agreement")


def _first(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value


def _merge(old: Trial, new: Trial) -> Trial:
    """Return what is known of one setting from two accounts of it: the exact one, then the newer one."""
    best, other = (old, new) if old.exact and not new.exact else (new, old)
    timed = best.latency
    if other.latency is not None and (timed is None or isnan(timed.low)):
        timed = other.latency
    kept = new if new.identity is not None else old
    return replace(
        best,
        latency=timed,
        **{name: _first(getattr(best, name), getattr(other, name)) for name in _LATE},
        when=old.when,
        parent=new.parent or old.parent,
        mine=old.mine or new.mine,
        identity=kept.identity,
        name=kept.name,
        starred=kept.starred,
        deleted=new.deleted,
    )
