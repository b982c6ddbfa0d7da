"""A deployed model that is watched."""
