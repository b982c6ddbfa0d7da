"""What the model does differently now: classes, confusion, confidence, drift, attributions, corruptions."""
