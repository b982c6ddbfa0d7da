"""The training loop, and one step of it: its objective, its parts, its precision and its memory."""
