"""The weights of one layer before and after, as a whole or by channel, and those of all layers small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from ..base.view import View, script, style

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.compression import CompressedModel
    from workbench.measure.weights import Overview
    from workbench.session import Session
    from workbench.snapshot import Snapshot

    from ..base.marks import Marks

BINS = 96
#: Shares travel as whole ten-thousandths.
FINE = 10_000


class WeightView(View):
    """A histogram drawn in the browser from a few hundred bytes a move.

    ``log`` draws counts on a logarithmic scale, ``per_channel`` what each output channel spans instead.
    ``compact`` leaves out all but the histogram, for a small place; the small histograms of all layers are
    computed and sent only where it is not set.
    """

    patience = 0.15
    _esm = script("weights/histogram.js", "weights/channels.js", "weights/thumbnails.js", "weights/weights.js")
    _css = style("weights/weights.css")

    layers: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    layer = traitlets.Unicode("").tag(sync=True)
    log = traitlets.Bool(True).tag(sync=True)
    per_channel = traitlets.Bool(False).tag(sync=True)
    compact = traitlets.Bool(False).tag(sync=True)

    edges = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    before = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    after = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    grid = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    about = traitlets.Dict().tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)

    #: ``(4, entries)`` and ``(6, entries)`` float32, see ``ChannelSummary``; empty unless ``per_channel``.
    channels_before = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    channels_after = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    #: ``(layers, bins)`` uint8, see ``Overview``, and the height that 255 stands for, float32.
    overview_before = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    overview_after = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    overview_ceilings = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    #: ``(3, layers)`` uint16: share of zeros, bits, threshold as a share of the largest magnitude.
    overview_facts = traitlets.Bytes(b"").tag(sync=True, echo_update=False)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._drawn: tuple[int, str] | None = None
        self._overview: Overview | None = None
        super().__init__(session, **traits)
        self.observe(self._on_form, "per_channel")

    def begin(self, session: Session) -> None:
        """List the layers."""
        self._drawn = self._overview = None
        self.layers = [{"name": layer.name, "type": layer.type, "params": layer.params} for layer in session.layers]
        self.overview_before = self.overview_after = self.overview_facts = b""

    def mark(self, marks: Marks) -> None:
        """Show the layer selected last."""
        if marks.layer != self.layer:
            self.layer = marks.layer
            self._drawn = None
            if self.visible:
                self._show()

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Select a layer, for all views."""
        if content.get("do") == "select" and self.session is not None:
            self.marks.select(str(content.get("layer")))

    def draw(self, snapshot: Snapshot) -> None:
        """Draw the chosen layer once for each Recipe: accuracy's later looks change no weights."""
        key = (snapshot.generation, self.layer)
        if key != self._drawn:
            self._drawn = key
            self._show()
            self._show_overview()

    def plot(self, area: FigureBase) -> None:
        """Draw the histogram, or the channels' ranges where those are shown."""
        from .figure import plot_channels, plot_histogram

        if self.session is None or not self.layer:
            return
        if self.per_channel:
            plot_channels(area, self.session.compressed.summarize_channels(self.layer))
        else:
            plot_histogram(area, self.session.weights(self.layer, bins=BINS), log=self.log)

    def _on_form(self, change: dict[str, Any]) -> None:
        """The channels are shown now, or no longer."""
        if self.visible:
            self._show()
        else:
            self._drawn = None  # drawn when it is seen

    def _show(self) -> None:
        session, layer = self.session, self.layer
        if session is None or not layer:
            return
        try:
            summary = session.weights(layer, bins=BINS)
            channels = session.compressed.summarize_channels(layer) if self.per_channel else None
        except ValueError as problem:
            with self.publishing():
                self.error = str(problem)
            return
        with self.publishing():
            if layer != self.layer:
                return
            self.edges = np.asarray(summary.edges, np.float32).tobytes()
            self.before = np.asarray(summary.before, np.uint32).tobytes()
            self.after = np.asarray(summary.after, np.uint32).tobytes()
            self.grid = np.asarray(summary.grid, np.float32).tobytes()
            self.channels_before = channels.before.tobytes() if channels else b""
            self.channels_after = channels.after.tobytes() if channels else b""
            self.about = {
                "layer": summary.layer, "threshold": summary.threshold, "sparsity": round(summary.sparsity, 5),
                "bits": summary.bits, "removed": round(summary.removed, 5),
                "channels": channels.channels if channels else 0, "group": channels.group if channels else 1,
            }  # fmt: skip
            self.error = ""

    def _show_overview(self) -> None:
        session = self.session
        if session is None or self.compact:
            return
        compressed = session.compressed
        if self._overview is None:
            self._overview = _overview_of(session)
        overview = self._overview
        weights, versions = {}, {}
        for layer in session.layers:
            weights[layer.name] = [compressed.tensors[name] for name in layer.weights]
            versions[layer.name] = tuple(compressed.versions[name] for name in layer.weights)
        after = overview.after(weights, versions, compressed.thresholds)
        facts = _facts(session, compressed, overview)
        with self.publishing():
            self.overview_before = overview.before.tobytes()
            self.overview_ceilings = overview.ceilings.tobytes()
            self.overview_after = after.tobytes()
            self.overview_facts = facts.tobytes()


def _overview_of(session: Session) -> Overview:
    from workbench.measure.weights import Overview

    parameters = session.model.module.state_dict()
    return Overview({layer.name: [parameters[name] for name in layer.weights] for layer in session.layers})


def _facts(session: Session, compressed: CompressedModel, overview: Overview) -> np.ndarray[Any, Any]:
    names = [layer.name for layer in session.layers]
    thresholds = np.asarray([compressed.thresholds.get(name, 0.0) for name in names]) / overview.reaches
    zeros = np.asarray([figures.sparsity for figures in compressed.layers])
    bits = [figures.bits for figures in compressed.layers]
    return np.stack([zeros * FINE, bits, thresholds.clip(0, 1) * FINE]).round().astype(np.uint16)
