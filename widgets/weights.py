"""The weights of one layer before and after, with the pruning threshold and the quantizer's grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from .view import View, script, style

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.snapshot import Snapshot

    from .marks import Marks

BINS = 96


class WeightView(View):
    """A histogram drawn in the browser from a few hundred bytes a move."""

    patience = 0.15
    _esm = script("weights.js")
    _css = style("weights.css")

    layers: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    layer = traitlets.Unicode("").tag(sync=True)
    log = traitlets.Bool(True).tag(sync=True)
    edges = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    before = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    after = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    grid = traitlets.Bytes(b"").tag(sync=True, echo_update=False)
    about = traitlets.Dict().tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._drawn: tuple[int, str] | None = None
        super().__init__(session, **traits)

    def begin(self, session: Session) -> None:
        """List the layers."""
        self._drawn = None
        self.layers = [{"name": layer.name, "type": layer.type, "params": layer.params} for layer in session.layers]

    def mark(self, marks: Marks) -> None:
        """Show the layer selected last."""
        if marks.layer != self.layer:
            self.layer = marks.layer
            self._show(self.layer)

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Select a layer, for all views."""
        if content.get("do") == "select" and self.session is not None:
            self.marks.select(str(content.get("layer")))

    def draw(self, snapshot: Snapshot) -> None:
        """Draw the chosen layer once for each Recipe: accuracy's later looks change no weights."""
        key = (snapshot.generation, self.layer)
        if key != self._drawn:
            self._drawn = key
            self._show(self.layer)

    def _show(self, layer: str) -> None:
        if self.session is None or not layer:
            return
        try:
            summary = self.session.weights(layer, bins=BINS)
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
            self.about = {
                "layer": summary.layer, "threshold": summary.threshold,
                "sparsity": round(summary.sparsity, 5), "bits": summary.bits,
            }  # fmt: skip
            self.error = ""
