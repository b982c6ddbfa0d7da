"""Global sliders, presets and settings, and what a moved control makes of the recipe."""
