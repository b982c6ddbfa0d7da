"""Shipping a compressed model: export it for a runtime, time it there."""
