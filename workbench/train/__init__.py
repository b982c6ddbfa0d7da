"""Win accuracy back: training under compression, distilling, and training sparse from the start."""
