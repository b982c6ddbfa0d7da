"""The controls: two sliders, the switches, and the rest folded away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from .recipes import BITS, OFF, ControlsState, controls_from_recipe, recipe_from_controls
from .view import View, script, style

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.snapshot import Snapshot


class ControlsView(View):
    """Edits a Session's Recipe; follows it when it is changed elsewhere.

    The page sends ``state`` as a whole, so a newer one simply replaces an older. ``follow`` goes the
    other way, and only when the Recipe was not set by this view: a slider under a hand is never moved.
    """

    _esm = script("controls.js")
    _css = style("controls.css")
    _positions: ClassVar[dict[str, Any]] = {"bits": list(BITS), "off": OFF}

    state = traitlets.Dict(ControlsState().to_page()).tag(sync=True, echo_update=False)
    follow = traitlets.Dict().tag(sync=True)
    positions = traitlets.Dict(_positions).tag(sync=True)
    untouched = traitlets.Dict(ControlsState().to_page()).tag(sync=True)
    batchnorm = traitlets.Bool(True).tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    recipe = traitlets.Unicode("").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._generation = -1
        self._dense = 0
        super().__init__(session, **traits)
        self.observe(self._on_state, "state")

    def begin(self, session: Session) -> None:
        """Forget the generations of the Session before, and learn what this model has."""
        self._generation = -1
        self._dense = sum(layer.params for layer in session.layers)
        self.batchnorm = _has_batchnorm(session.model.module)
        self.error = ""

    def draw(self, snapshot: Snapshot) -> None:
        """Show what was reached, and follow a Recipe that was set elsewhere."""
        with self.publishing():
            self.note = _reached(snapshot, self._dense)
            self.recipe = snapshot.recipe.to_yaml() if snapshot.recipe else ""
            if snapshot.generation > self._generation:
                self._generation = snapshot.generation
                self._follow(snapshot)

    def _follow(self, snapshot: Snapshot) -> None:
        present = ControlsState.from_page(self.state)
        state = controls_from_recipe(snapshot.recipe, present)
        shown = state or present
        self.follow = {**shown.to_page(), "custom": state is None, "generation": snapshot.generation}

    def _on_state(self, change: dict[str, Any]) -> None:
        if self.session is None:
            return
        try:
            self._generation = self.session.apply(recipe_from_controls(ControlsState.from_page(change["new"])))
            self.error = ""
        except ValueError as problem:
            self.error = str(problem)


def _reached(snapshot: Snapshot, dense: int) -> str:
    """Say which share of the weights is gone, counting removed channels as well as zeros."""
    kept = sum(layer.params * (1 - layer.sparsity) for layer in snapshot.layers)
    share = 1 - kept / dense if dense and snapshot.layers else 0.0
    return f"{100 * share:.1f} % of weights removed" if share > 0.0005 else ""


def _has_batchnorm(module: Any) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    return module is None or any(isinstance(part, _BatchNorm) for part in module.modules())
