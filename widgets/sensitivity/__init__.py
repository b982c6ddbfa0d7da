"""How much accuracy each layer loses at each setting, swept in the background."""
