"""Every operator the importer knows, and the rule that turns it into torch."""

from __future__ import annotations

from .builder import Rule
from .rules_elementwise import ELEMENTWISE
from .rules_layers import LAYERS
from .rules_pooling import POOLING
from .rules_shapes import SHAPES

RULES: dict[str, Rule] = {**LAYERS, **POOLING, **ELEMENTWISE, **SHAPES}
