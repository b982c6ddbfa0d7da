"""Files to download: the packed archive and ONNX."""
