"""Understand a session: reports now; sensitivity and behaviour later."""
