"""What to try next, in one sentence, and a tour of the page that can be skipped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import traitlets

from ..base.view import View, script, style

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.snapshot import Snapshot

PRUNE = "Drag “Pruning ratio” to 70 % and watch: the file shrinks, and accuracy falls."
REPAIR = "Now switch on “Recalibrate BatchNorm”: it costs no training, and most of the accuracy comes back."
QUANTIZE = "Next, drag “Bit-width” down to 4: the file shrinks again, and no image needs to be trained on."
CHANNELS = "The model is smaller but not faster: prune “channels” instead of “weights”, and latency follows."
LAYERS = "Layers differ: run a sweep under “Sensitivity”, then click a cell to give one layer its own setting."


class TourView(View):
    """A line that says what to try, by what has been tried; beside it the way into the tour.

    The person can put the line away; the page remembers that. The tour itself is the page's own.
    """

    _esm = script("page/tour.js")
    _css = style("page/tour.css")

    hint = traitlets.Unicode(PRUNE).tag(sync=True)

    def begin(self, session: Session) -> None:
        """Begin with the first thing to try."""
        self.hint = PRUNE

    def draw(self, snapshot: Snapshot) -> None:
        """Say what to try after this Recipe, once it has settled."""
        if snapshot.settled and self.session is not None:
            with self.publishing():
                self.hint = next_hint(snapshot, repairable=_has_batchnorm(self.session))


def next_hint(snapshot: Snapshot, repairable: bool) -> str:
    """Return what to try after ``snapshot``."""
    steps = {step.technique: step.settings.model_dump() for step in snapshot.recipe.steps}
    if not steps:
        return PRUNE
    pruned = steps.get("prune", {})
    if pruned and repairable and "recalibrate" not in steps:
        return REPAIR
    if not {"quantize", "share"} & steps.keys():
        return QUANTIZE
    return LAYERS if pruned.get("granularity") == "filter" else CHANNELS


def _has_batchnorm(session: Session) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    module = session.model.module
    return any(isinstance(part, _BatchNorm) for part in module.modules())
