"""How a model is judged: accuracy, size, latency."""
