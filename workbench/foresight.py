"""Sizes of recipes that a person may come to next, found in quiet moments and kept for later sessions.

They are no estimates: each recipe is carried out and packed, and the bytes are counted. What was found depends on
the model, on the code and on the processor, whose last bits decide how a weight is rounded; it is kept under all of
that, and under nothing else is it found again.
"""

from __future__ import annotations

import functools
import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, TypeAlias

from workbench.errors import WorkbenchError
from workbench.measure.estimate import Size
from workbench.measure.latency.device import cpu_identity
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques import Cost

#: Seconds of one processor for it in a session, at most.
SECONDS = 240.0
#: Days that sizes are kept.
DAYS = 60
#: Seconds to wait while another process writes.
PATIENCE = 1.0

Check = Callable[[], None]
#: A recipe whose size is wanted, or what is to be told now.
Errand: TypeAlias = Recipe | Callable[[], None]

_TABLE = """
create table if not exists sizes (
    owner text not null, recipe text not null, bytes integer not null, entropy integer not null,
    runtime integer, day integer not null, primary key (owner, recipe)
) without rowid
"""


class Found(NamedTuple):
    """The bytes of a recipe's archive, the bound of its entropy, and the bytes of the file a runtime would load."""

    bytes: int
    entropy_bytes: int
    runtime_bytes: int | None


class KeptSizes:
    """The sizes found of one model, by the hash of the recipe, in a file that sessions share; without one, in memory.

    A file that cannot be written or read is done without.
    """

    def __init__(self, path: Path | None, owner: str) -> None:
        self._owner = owner
        self._known: dict[str, Found] = {}
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        if path is not None:
            with suppress(sqlite3.Error, OSError):
                self._connection = _opened(path)
                self._known = self._rows()

    def get(self, recipe: str) -> Found | None:
        """Return what is known of the recipe with this hash, without a look into the file."""
        return self._known.get(recipe)

    def look_up(self, recipe: str) -> Found | None:
        """Return what is known of it here, or was found by another process meanwhile."""
        if recipe not in self._known:
            with suppress(sqlite3.Error):
                self._known |= self._rows(" and recipe = ?", recipe)
        return self._known.get(recipe)

    def keep(self, recipe: str, found: Found) -> None:
        """Keep what was found of the recipe with this hash."""
        self._known[recipe] = found
        if self._connection is not None:
            row = (self._owner, recipe, *found, _today())
            with self._lock, suppress(sqlite3.Error), self._connection:
                self._connection.execute("insert or replace into sizes values (?, ?, ?, ?, ?, ?)", row)

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _rows(self, condition: str = "", *values: str) -> dict[str, Found]:
        if self._connection is None:
            return {}
        query = f"select recipe, bytes, entropy, runtime from sizes where owner = ?{condition}"
        with self._lock:
            rows = self._connection.execute(query, (self._owner, *values)).fetchall()
        return {recipe: Found(nbytes, entropy, runtime) for recipe, nbytes, entropy, runtime in rows}


class Foresight:
    """Finds the sizes of wanted recipes, one after the other; ``find`` carries one out and counts its bytes.

    ``keep`` opens what is kept, when first there is something to find.
    """

    def __init__(self, find: Callable[[Recipe, Check], Size], keep: Callable[[], KeptSizes]) -> None:
        self._find = find
        self._keep = keep
        self._seconds = SECONDS
        self._lock = threading.Lock()
        self._wanted: Iterator[Errand] = iter(())
        self._next: Errand | None = None

    @functools.cached_property
    def _kept(self) -> KeptSizes:
        return self._keep()

    def want(self, groups: Sequence[Iterable[Recipe]], told: Callable[[], None]) -> None:
        """Find the sizes of these recipes, in this order, and of none that were wanted before.

        ``told`` is called whenever those of one more group are known, as far as they can be.
        """

        def errands() -> Iterator[Errand]:
            for group in groups:
                with suppress(WorkbenchError):  # a recipe that cannot be: the group ends with it
                    yield from group
                yield told

        with self._lock:
            self._wanted, self._next = errands(), None

    def get(self, recipe: str) -> Found | None:
        """Return the size of the recipe with this hash, where it is known here; nothing is waited for."""
        kept = self.__dict__.get("_kept")
        return kept and kept.get(recipe)

    def has_more(self) -> bool:
        """Whether there is something left to be found, and time for it."""
        with self._lock:
            if self._next is None:
                self._next = next(self._wanted, None)
            return self._next is not None and self._seconds > 0

    def go_on(self, check: Check) -> bool:
        """Find one more size; return whether the group goes on. What ``check`` interrupts is left for another time."""
        if not self.has_more():
            return False
        with self._lock:
            errand = self._next
        if isinstance(errand, Recipe):
            self._see_to(errand, check)
        elif errand is not None:
            errand()
        with self._lock:
            if self._next is errand:  # unless others are wanted by now
                self._next = None
        return isinstance(errand, Recipe)

    def _see_to(self, recipe: Recipe, check: Check) -> None:
        if recipe.cost is not Cost.LIVE or self._kept.look_up(recipe.hash) is not None:
            return
        start = time.thread_time()
        try:
            size = self._find(recipe, check)
        except WorkbenchError:  # this model refuses it, and will when a person asks
            return
        finally:
            self._seconds -= time.thread_time() - start
        self._kept.keep(recipe.hash, Found(size.bytes, size.entropy_bytes or 0, size.runtime_bytes))

    def close(self) -> None:
        """Want nothing more, and let go of the file."""
        self.want((), lambda: None)
        if "_kept" in self.__dict__:
            self._kept.close()


def owner_of(subject: Subject) -> str:
    """Return what the sizes of a model's recipes depend on beside the recipe: the model as it is written, and where."""
    model = subject.model
    parts = [
        subject.hash,
        *subject.image_shape,
        model.name,
        model.origin,
        type(model.module).__name__,
        _code(),
        cpu_identity(),
    ]
    parts += [f"{library} {metadata.version(library)}" for library in ("torch", "numpy", "zstandard")]
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()


@functools.cache
def _code() -> str:
    """Return a hash of the sources that compress: any change of them may change a file."""
    found = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        found.update(file.read_bytes())
    return found.hexdigest()


def _opened(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, timeout=PATIENCE, check_same_thread=False)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = normal")
    with connection:
        connection.execute(_TABLE)
        connection.execute("delete from sizes where day < ?", (_today() - DAYS,))
    return connection


def _today() -> int:
    return int(time.time() // 86400)
