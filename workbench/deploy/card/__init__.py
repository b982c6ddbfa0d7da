"""A model card: what a compressed model is, what it can do, what it lost, and how to make it again.

``facts`` gathers it from the history, ``contents`` puts it into sections, ``document`` writes Markdown and HTML.
"""

from __future__ import annotations

from .contents import card
from .document import Document, to_html, to_markdown
from .facts import Facts, gather

__all__ = ["Document", "Facts", "card", "gather", "to_html", "to_markdown"]
