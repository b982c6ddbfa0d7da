"""Every measured setting and every finding about a model, in one SQLite file.

A setting is one recipe measured on the whole of one split of one data set with one model; measuring it
again finds it. It keeps where it came from, its layers' figures, what measured it, and each image's
predicted class (compressed), so that what flipped between two settings can be told later without running
anything. Baseline logits are kept too: they are what the estimator compares with. A finding is what longer
work has learnt so far (a sweep, a search, a profile), finished or not. The file may be open in several
processes at once, and whatever was written stays when one of them is killed.

``values`` says what is kept, ``schema`` how, ``store`` keeps it.
"""

from __future__ import annotations

from .others import of_others
from .schema import FORMAT
from .store import History
from .values import WITHOUT_LABELS, Finding, HistoryError, Key, Record, present_versions

__all__ = [
    "FORMAT",
    "WITHOUT_LABELS",
    "Finding",
    "History",
    "HistoryError",
    "Key",
    "Record",
    "of_others",
    "present_versions",
]
