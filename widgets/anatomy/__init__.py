"""How the model is built: its layers and links as a graph, and the selected layer in depth."""
