"""The weights of a layer before and after."""
