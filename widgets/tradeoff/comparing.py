"""Chosen settings side by side: recipes and how they differ, figures, layers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.analyze.compare import diff_recipes
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe

if TYPE_CHECKING:
    from workbench.session import Session

    from .trials import Trial

#: Settings compared at once, at most: more columns than that cannot be read.
MOST = 6


def compare_trials(session: Session, trials: Sequence[Trial]) -> dict[str, Any]:
    """Return the settings' figures, their differences from the first, and their layers, as plain data.

    Raises ``WorkbenchError`` for fewer than two settings or more than ``MOST``.
    """
    if not 2 <= len(trials) <= MOST:
        raise WorkbenchError(f"Choose two to {MOST} settings to compare; {len(trials)} are chosen.")
    recipes = [Recipe.parse(json.loads(trial.recipe)) for trial in trials]
    tables = [_layers(session, trial) for trial in trials]
    names = list(dict.fromkeys(name for table in tables for name in table))
    return {
        "judged": "accuracy" if session.place.labelled else "agreement",
        "settings": [_figures(trial) for trial in trials],
        "differences": [[str(one) for one in diff_recipes(recipes[0], recipe)] for recipe in recipes],
        "layers": [{"name": name, "cells": [table.get(name) for table in tables]} for name in names],
    }


def _figures(trial: Trial) -> dict[str, Any]:
    latency, score = trial.latency, trial.score
    return {
        "words": trial.name or trial.words, "score": score.value, "low": score.low, "high": score.high,
        "n": score.n, "bytes": trial.bytes, "runtime_bytes": trial.runtime_bytes,
        "ms": latency.ms if latency else None, "measured_ms": trial.measured_ms, "loss": trial.loss,
        "agreement": trial.agreement, "recipe": Recipe.parse(json.loads(trial.recipe)).to_yaml().strip(),
    }  # fmt: skip


def _layers(session: Session, trial: Trial) -> dict[str, list[float]]:
    """Return layer → bytes, share of zeros, bits; empty where the history does not have them."""
    if trial.identity is None:
        return {}
    rows = session.history.layers(trial.identity)
    return {row["name"]: [row["bytes"], round(row["sparsity"], 4), row["bits"]] for row in rows}
