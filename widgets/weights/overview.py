"""All layers small: their histograms, and what the list says of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from workbench.compressed import CompressedModel
    from workbench.measure.weights import Overview
    from workbench.session import Session

#: Shares travel as whole ten-thousandths.
FINE = 10_000


def overview_of(session: Session) -> Overview:
    """Return the small histograms of a session's layers."""
    from workbench.measure.weights import Overview

    parameters = session.model.module.state_dict()
    return Overview({layer.name: [parameters[name] for name in layer.weights] for layer in session.layers})


def layer_facts(session: Session, compressed: CompressedModel, overview: Overview) -> np.ndarray[Any, Any]:
    """Return ``(3, layers)`` uint16: share of zeros, bits, threshold as a share of the largest magnitude."""
    names = [layer.name for layer in session.layers]
    thresholds = np.asarray([compressed.thresholds.get(name, 0.0) for name in names]) / overview.reaches
    zeros = np.asarray([figures.sparsity for figures in compressed.layers])
    bits = [figures.bits for figures in compressed.layers]
    return np.stack([zeros * FINE, bits, thresholds.clip(0, 1) * FINE]).round().astype(np.uint16)
