"""Train: the zoo's checkpoints now."""
