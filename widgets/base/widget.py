"""What all widgets of the page are, whatever they show."""

from __future__ import annotations

from typing import Any

import anywidget


class Widget(anywidget.AnyWidget):
    """A widget whose messages go to the subshell to which the page sends them, also while a cell runs.

    From version 7.4 on ipykernel sends a comm's message to the shell whose request was being answered when the kernel
    told something on that comm last. What a thread tells is said to answer the cell that was run last, so the next move
    of a slider would wait in the main shell for as long as a cell runs there.
    """

    def open(self) -> None:
        """Open the comm to the page."""
        super().open()
        if hasattr(self.comm, "_reply_subshell_for"):
            self.comm._reply_subshell_for = _as_asked


def _as_asked(_data: Any, asked: str | None) -> str | None:
    return asked
