"""The techniques, by name; a new one is one file here and one entry below."""

from __future__ import annotations

from typing import Any

from .base import Cost, Dial, Settings, Technique
from .correct_bias import CORRECT_BIAS
from .equalize import EQUALIZE
from .factorize import FACTORIZE
from .fold_batchnorm import FOLD_BATCHNORM
from .pack import PACK
from .prune import PRUNE
from .quantize import QUANTIZE
from .recalibrate import RECALIBRATE
from .share import SHARE
from .smooth import SMOOTH
from .split import SPLIT
from .trained import TRAINED

#: In the order in which steps make sense: what rearranges weights, what removes, what stores, what repairs,
#: what trains.
_ALL: tuple[Technique[Any], ...] = (
    EQUALIZE,
    SMOOTH,
    PRUNE,
    SPLIT,
    FACTORIZE,
    FOLD_BATCHNORM,
    QUANTIZE,
    SHARE,
    PACK,
    CORRECT_BIAS,
    RECALIBRATE,
    *TRAINED,
)
TECHNIQUES: dict[str, Technique[Any]] = {technique.name: technique for technique in _ALL}

__all__ = ["TECHNIQUES", "Cost", "Dial", "Settings", "Technique"]
