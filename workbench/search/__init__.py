"""Find the best recipe under a budget."""
