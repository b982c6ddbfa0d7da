"""Whether a history file that somebody names is one of this model at all."""

from __future__ import annotations

from collections import Counter

from .store import History
from .values import HistoryError, Key

#: Models that are named.
_NAMED = 3


def of_others(history: History, key: Key) -> str:
    """Return a sentence where the settings in ``history`` are all of other models than ``key``'s, empty otherwise."""
    try:
        subjects = history.subjects()
    except HistoryError:  # damaged while it was open, which is said elsewhere
        return ""
    if not subjects or any(other.model_hash == key.model_hash for other, _ in subjects):
        return ""
    counts: Counter[str] = Counter()
    for other, count in subjects:
        counts[other.model] += count
    named = ", ".join(f"'{name}'" for name, _ in counts.most_common(_NAMED))
    same = " (of the same name, with other weights)" if key.model in counts else ""
    more = " and others" if len(counts) > _NAMED else ""
    return (
        f"The {counts.total():,} settings in the history '{history.path}' are of {named}{more}{same} and none is of "
        f"this '{key.model}'; they stay there, and its own are put beside them."
    )
