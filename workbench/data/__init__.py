"""Data: what is measured on. ``load.load_dataset`` is the way in; ``catalog`` lists names without torch."""
