"""The weights of one layer before and after: histogram, channels, spectrum or pictures; and all layers small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.errors import WorkbenchError

from ..base.errands import Errands
from ..base.view import View, script, style
from .overview import layer_facts, overview_of
from .patterns import n_of_m
from .posteriors import has_posterior, posterior_of
from .spectra import Spectra

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.measure.pictures import Pictures
    from workbench.measure.weights import Overview
    from workbench.session import Session
    from workbench.snapshot import Snapshot

    from ..base.marks import Marks

BINS = 96
#: What can be looked at, and its name on the page.
MODES = {
    "histogram": "Histogram",
    "channels": "Channels",
    "spectrum": "Spectrum",
    "filters": "Filters",
    "posterior": "Posterior",
}


class WeightView(View):
    """One layer's weights, drawn in the browser from a few hundred bytes to 10 kB a move.

    ``mode`` chooses what is drawn: the ``histogram`` with threshold and levels, what each of the output
    ``channels`` spans, the ``spectrum`` of singular values, the ``filters`` as images, of which ``page`` and
    ``close_up`` choose which, or the ``posterior``: a distribution for each weight, where training found one.
    ``log`` draws counts and singular values on a logarithmic scale.
    ``compact`` leaves out all but this one drawing, for a small place; the small histograms of all layers
    are computed and sent only where it is not set.
    """

    patience = 0.15
    _esm = script(
        "weights/histogram.js", "weights/channels.js", "weights/spectrum.js", "weights/filters.js",
        "weights/posterior.js", "weights/thumbnails.js", "weights/head.js", "weights/weights.js",
    )  # fmt: skip
    _css = style("weights/weights.css")

    layers: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    layer = traitlets.Unicode("").tag(sync=True)
    modes: traitlets.List[list[str]] = traitlets.List([list(entry) for entry in MODES.items()]).tag(sync=True)
    mode = traitlets.Enum(tuple(MODES), "histogram").tag(sync=True)
    log = traitlets.Bool(True).tag(sync=True)
    page = traitlets.Int(0).tag(sync=True)
    close_up = traitlets.Bool(False).tag(sync=True)
    compact = traitlets.Bool(False).tag(sync=True)

    edges = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    before = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    after = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    grid = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    about = traitlets.Dict().tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)

    #: ``(4, entries)`` and ``(6, entries)`` float32, see ``ChannelSummary``; empty in another mode.
    channels_before = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    channels_after = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    #: Singular values, float32, see ``Spectrum``; empty in another mode. ``rank`` is that of the weight after.
    spectrum_before = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    spectrum_after = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    rank = traitlets.Int(0).tag(sync=True)
    #: ``(rows, tiles, height, width)`` int8, see ``Pictures``; empty in another mode. ``pictured`` says what they are.
    pictures_before = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    pictures_after = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    pictured = traitlets.Dict().tag(sync=True)
    #: ``(4, weights)`` float64, see ``PosteriorSummary``; empty in another mode.
    posterior = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    #: ``(layers, bins)`` uint8, see ``Overview``, and the height that 255 stands for, float32.
    overview_before = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    overview_after = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    overview_ceilings = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    #: ``(3, layers)`` uint16: share of zeros, bits, threshold as a share of the largest magnitude.
    overview_facts = traitlets.Bytes(b"").tag(sync=True, echo_update=False)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._drawn: tuple[int, str] | None = None
        self._overview: Overview | None = None
        self._spectra = Spectra()
        self._errands = Errands("workbench-weights")
        super().__init__(session, **traits)
        self.observe(self._on_form, ["mode", "page", "close_up"])

    def begin(self, session: Session) -> None:
        """List the layers."""
        self._drawn = self._overview = None
        self.layers = [{"name": layer.name, "type": layer.type, "params": layer.params} for layer in session.layers]
        self.overview_before = self.overview_after = self.overview_facts = b""

    def mark(self, marks: Marks) -> None:
        """Show the layer selected last, from its first page."""
        if marks.layer != self.layer:
            self.layer = marks.layer
            self._drawn = None
            turned = self.page > 0 and self.mode == "filters"
            self.page = 0
            if self.visible and not turned:  # turning the page has drawn it
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
        """Draw what ``mode`` chooses."""
        from . import figure, mosaic

        session, layer = self.session, self.layer
        if session is None or not layer:
            return
        if self.mode == "channels":
            figure.plot_channels(area, session.compressed.summarize_channels(layer))
        elif self.mode == "spectrum":
            figure.plot_spectrum(area, self._spectra.of(session.compressed, layer), log=self.log)
        elif self.mode == "posterior":
            figure.plot_posterior(area, posterior_of(session, layer))
        elif self.mode == "filters":
            pictures = self._pictures(session, layer)
            kept = self._pattern(pictures)
            mosaic.plot_pictures(area, pictures, kept[1] if kept else 0)
        else:
            figure.plot_histogram(area, session.weights(layer, bins=BINS), log=self.log)

    def _on_form(self, change: dict[str, Any]) -> None:
        """Something else is asked for."""
        if change["name"] != "mode" and self.mode != "filters":
            return
        if self.visible:
            self._show()
        else:
            self._drawn = None  # drawn when it is seen

    def _show(self) -> None:
        session, layer, mode = self.session, self.layer, self.mode
        if session is None or not layer:
            return
        try:
            summary = session.weights(layer, bins=BINS)
            channels = session.compressed.summarize_channels(layer) if mode == "channels" else None
            pictures = self._pictures(session, layer) if mode == "filters" else None
            posterior = posterior_of(session, layer) if mode == "posterior" else None
        except ValueError as problem:
            self._tell(str(problem))
            return
        with self.publishing():
            if layer != self.layer or mode != self.mode:
                return
            if mode != "spectrum" or self.about.get("layer") != layer:
                self.spectrum_before = self.spectrum_after = b""
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
                "grids": summary.grids, "posterior": has_posterior(session),
            }  # fmt: skip
            self.posterior = posterior.shown.tobytes() if posterior else b""
            self._publish_pictures(pictures)
            self.error = ""
        if mode == "spectrum":
            self._errands.run("spectrum", lambda: self._show_spectrum(session, layer))

    def _show_spectrum(self, session: Session, layer: str) -> None:
        """Decompose the layer's present weight; away from the Feed's thread, since large layers take a second."""
        try:
            spectrum = self._spectra.of(session.compressed, layer)
        except WorkbenchError as problem:
            if self._shows(session, layer, "spectrum"):
                with self.publishing():
                    self.spectrum_before = self.spectrum_after = b""
                    self.error = str(problem)
            return
        with self.publishing():
            if self._shows(session, layer, "spectrum"):
                self.spectrum_before = spectrum.before.tobytes()
                self.spectrum_after = spectrum.after.tobytes()
                self.rank = spectrum.rank
                self.error = ""

    def _shows(self, session: Session, layer: str, mode: str) -> bool:
        return self.session is session and self.layer == layer and self.mode == mode

    def _tell(self, problem: str) -> None:
        """Say why there is nothing to draw, and draw nothing: what stands there is of another layer or recipe."""
        with self.publishing():
            self.about = {}
            for name in ("edges", "before", "after", "grid", "channels_before", "channels_after", "posterior"):
                self.set_trait(name, b"")
            self.spectrum_before = self.spectrum_after = b""
            self._publish_pictures(None)
            self.error = problem

    def _pictures(self, session: Session, layer: str) -> Pictures:
        from workbench.measure.pictures import LARGE, SMALL, picture_weights

        pair, room = session.compressed.weight_pair(layer), SMALL if self.compact else LARGE
        return picture_weights(pair, self.page, close_up=self.close_up, room=room)

    def _publish_pictures(self, pictures: Pictures | None) -> None:
        self.pictures_before = pictures.before.tobytes() if pictures else b""
        self.pictures_after = pictures.after.tobytes() if pictures else b""
        if pictures is None:
            self.pictured = {}
            return
        self.pictured = {
            "kind": pictures.kind, "shape": list(pictures.before.shape), "reach": pictures.reach,
            "output": pictures.first_output, "outputs": pictures.outputs, "column": pictures.first_column,
            "columns": pictures.all_columns, "inputs": pictures.inputs, "page": pictures.page,
            "pages": pictures.pages, "kept": self._pattern(pictures), "close_up": self.close_up,
        }  # fmt: skip

    def _pattern(self, pictures: Pictures) -> tuple[int, int] | None:
        """Return the N:M pattern to mark: of a layer seen close up, where its inputs stand side by side."""
        if self.session is None or not self.close_up:
            return None
        return n_of_m(self.session, pictures.layer, pictures.inputs)

    def _show_overview(self) -> None:
        session = self.session
        if session is None or self.compact:
            return
        compressed = session.compressed
        if self._overview is None:
            self._overview = overview_of(session)
        overview = self._overview
        weights, versions = {}, {}
        for layer in session.layers:
            weights[layer.name] = compressed.weights_of(layer.name)
            versions[layer.name] = tuple(compressed.versions.get(name, "removed") for name in layer.weights)
        after = overview.after(weights, versions, compressed.thresholds)
        facts = layer_facts(session, compressed, overview)
        with self.publishing():
            self.overview_before = overview.before.tobytes()
            self.overview_ceilings = overview.ceilings.tobytes()
            self.overview_after = after.tobytes()
            self.overview_facts = facts.tobytes()
