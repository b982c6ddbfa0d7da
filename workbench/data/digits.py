"""The 1,797 handwritten digits of scikit-learn (Alpaydin and Kaynak 1998, UCI, CC BY 4.0), 8×8 pixels."""

from __future__ import annotations

import numpy as np

from workbench.errors import WorkbenchError

from .assemble import Part, assemble
from .dataset import Dataset
from .options import Options

SOURCE = "Optical recognition of handwritten digits, Alpaydin and Kaynak 1998, UCI, CC BY 4.0"
SEED = 1998


def load_digits() -> Dataset:
    """Return the digits as uint8 ``(N, 1, 8, 8)``, cut by class: 60 % train, 20 % validation, 20 % test."""
    try:
        from sklearn.datasets import load_digits as load
    except ImportError:
        raise WorkbenchError("The digits come with scikit-learn, which is missing; install it.") from None
    found = load()
    # 17 grey levels, 0..16, spread over 0..255
    pixels = np.rint(found.images * (255 / 16)).astype(np.uint8)
    classes = tuple(str(name) for name in found.target_names)
    return assemble("digits", {"train": Part(pixels, found.target)}, Options(seed=SEED), classes=classes, source=SOURCE)
