"""Spectra of layers, each weight decomposed once: going back and forth between recipes costs nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from workbench.compressed import CompressedModel
    from workbench.measure.spectrum import Spectrum

#: Decomposed weights kept; one is 8 kB at most.
KEPT = 64


class Spectra:
    """The singular values of weights, by the weights' versions."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, compressed: CompressedModel, layer: str) -> Spectrum:
        """Return the layer's Spectrum. Raises ``WorkbenchError`` where its weight cannot be decomposed."""
        from workbench.measure.spectrum import compare_spectra, singular_values

        pair = compressed.weight_pair(layer)
        before = self._find(pair.before_version, lambda: singular_values(pair.before))
        after = self._find(pair.after_version, lambda: singular_values(pair.after))
        return compare_spectra(layer, before, after, max(pair.before.flatten(1).shape))

    def _find(self, version: str, compute: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        with self._lock:
            if version in self._kept:
                self._kept.move_to_end(version)
                return self._kept[version]
        values = compute()
        with self._lock:
            self._kept[version] = values
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return values
