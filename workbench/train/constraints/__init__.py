"""Tensors that learn while they stay compressed."""
