"""The three headline figures."""
