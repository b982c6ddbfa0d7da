"""A model's layers on several processes."""
