"""The table of layers, each with its own settings."""
