"""What all widgets of the page are, whatever they show."""

from __future__ import annotations

from weakref import WeakValueDictionary

import anywidget

from .prompt import be_prompt

_opened: WeakValueDictionary[str, Widget] = WeakValueDictionary()


class Widget(anywidget.AnyWidget):
    """A widget whose messages are handled at once, also while a cell runs, and make no kernel busy; see ``prompt``."""

    def open(self) -> None:
        """Open the comm to the page."""
        super().open()
        if self.comm is not None:
            _opened[self.comm.comm_id] = self
            be_prompt(self.comm, _opened.__contains__)
