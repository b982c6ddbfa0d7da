"""Every setting tried, on any two of accuracy, size and latency."""
