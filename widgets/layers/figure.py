"""The layers as a matplotlib figure: what each takes of the file, dense and compressed, and how it is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.counting import counted

from ..base.plots import ACCENT, BASE, MUTED, legend_below, title

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.session import Session

#: With more layers than this, only some are named.
NAMED = 32


def plot_layers(area: FigureBase, session: Session) -> None:
    """Draw the bytes of each layer before and after, its share of zeros and its bit-width, in call order."""
    layers = session.snapshot.layers
    sizes, zeros = area.subplots(1, 2, sharey=True, width_ratios=[1.5, 1])
    place = np.arange(len(layers))
    dense = [4 * layer.params / 1e3 for layer in session.layers]
    sizes.barh(place[: len(dense)], dense[: len(layers)], 0.8, color=BASE, alpha=0.55, label="dense fp32")
    sizes.barh(place, [layer.bytes / 1e3 for layer in layers], 0.4, color=ACCENT, label="compressed")
    sizes.set_xlabel("size, kB")
    zeros.barh(place, [100 * layer.sparsity for layer in layers], 0.6, color=ACCENT)
    zeros.set_xlabel("zeros, %")
    zeros.set_xlim(0, 100)
    every = -(-len(layers) // NAMED) or 1
    sizes.set_yticks(place[::every], [layer.name for layer in layers[::every]])
    sizes.set_ylim(len(layers) - 0.4, -0.6)
    for row in place[::every]:
        bits = f"{layers[row].bits} bit"
        zeros.annotate(bits, (1.02, row), xycoords=("axes fraction", "data"), va="center", fontsize=6, color=MUTED)
    zeros.tick_params(labelleft=False)
    title(sizes, counted(len(layers), "layer"))
    legend_below(area, sizes)
