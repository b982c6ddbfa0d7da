"""Where bundled data lies, and where fetched data is kept."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]

#: The data that ships with the project: inside the package when installed from a wheel, beside it in
#: a checkout.
BUNDLED = _PACKAGE / "_datasets" if (_PACKAGE / "_datasets").exists() else _PACKAGE.parent / "datasets"


def user_folder() -> Path:
    """Folder for what the person makes (history, fetched data); ``WORKBENCH_HOME`` overrides it."""
    given = os.environ.get("WORKBENCH_HOME")
    if given:
        return Path(given)
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "compression-workbench"


def cache_folder(name: str) -> Path:
    """Folder for a fetched data set, made when missing."""
    folder = user_folder() / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
