"""Ship a compressed model: exports to real runtimes."""
