"""From a recipe set to its first figures, without a page."""

from __future__ import annotations

import threading
import time

from workbench.recipe import Recipe
from workbench.session import Session
from workbench.snapshot import Snapshot

PATIENCE = 60.0


def first_figures(session: Session, recipe: Recipe, *wanted: str) -> dict[str, float]:
    """Set ``recipe`` and return the milliseconds to its first ``size`` and ``accuracy``, those that are ``wanted``.

    Snapshots of the recipe before, whose latency may be told anew at any time, do not count.
    """
    came = threading.Event()
    stamps: dict[str, float] = {}

    def listen(snapshot: Snapshot) -> None:
        now = time.perf_counter()
        if snapshot.recipe.hash == recipe.hash:
            for name in wanted:
                if getattr(snapshot, name) is not None:
                    stamps.setdefault(name, now)
            if len(stamps) == len(wanted):
                came.set()

    end = session.subscribe(listen)
    start = time.perf_counter()
    session.apply(recipe)
    if not came.wait(PATIENCE):
        raise TimeoutError(recipe.to_yaml())
    end()
    return {name: 1e3 * (stamp - start) for name, stamp in stamps.items()}
