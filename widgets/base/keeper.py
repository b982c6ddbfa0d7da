"""The page's part of the picture in a notebook: it finds the picture's place again after a reload."""

from __future__ import annotations

from pathlib import Path

import traitlets

from .widget import Widget


class Keeper(Widget):
    """Writes a picture's updates into the notebook where JupyterLab has forgotten their cell; draws nothing.

    ``place`` is the display id of the picture, which also marks the output before it.
    """

    _esm = Path(__file__).with_name("keeper.js").read_text(encoding="utf-8")

    place = traitlets.Unicode("").tag(sync=True)
