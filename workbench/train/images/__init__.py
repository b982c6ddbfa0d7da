"""Training images: in which order, how mixed and how changed."""
