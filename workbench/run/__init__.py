"""How a model is run: ONNX Runtime and PyTorch, and what is observed on the way."""
