"""The search for the best recipe within a budget."""
