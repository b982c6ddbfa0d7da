"""The controls: presets, two sliders, the switches, and the rest folded away."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import traitlets

from workbench.techniques import TECHNIQUES, Cost

from ..base.view import View, script, style
from .ahead import Ahead, place_of
from .fields import fields_of
from .presets import PRESETS
from .state import (
    BITS,
    MAIN,
    METHODS,
    OFF,
    ControlsState,
    controls_from_recipe,
    edited,
    further,
    granularities,
    keeping_locked,
    unshown,
)

if TYPE_CHECKING:
    from workbench.recipe import Recipe
    from workbench.session import Session
    from workbench.snapshot import Snapshot

    from ..base.marks import Marks


class ControlsView(View):
    """Edits a Session's Recipe; follows it when it is changed elsewhere.

    The page sends ``state`` as a whole, with the names of the controls ``touched`` since it last followed,
    so a newer state simply replaces an older. ``follow`` goes the other way, and only when the Recipe was
    not set by this view: a slider under a hand is never moved. Locked layers keep their own settings
    through presets and resets.
    """

    patience = 0.0
    _esm = script("controls/field.js", "controls/ahead.js", "controls/controls.js")
    _css = style("controls/controls.css")
    of_page = View.of_page | {"state"}
    _positions: ClassVar[dict[str, Any]] = {
        "bits": list(BITS), "off": OFF, "methods": list(METHODS), "granularities": list(granularities()),
    }  # fmt: skip

    state = traitlets.Dict(ControlsState().to_page()).tag(sync=True, echo_update=False)
    follow = traitlets.Dict().tag(sync=True)
    positions = traitlets.Dict(_positions).tag(sync=True)
    presets: traitlets.List[dict[str, str]] = traitlets.List().tag(sync=True)
    advanced: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    remarks: traitlets.List[str] = traitlets.List().tag(sync=True)
    steps: traitlets.List[str] = traitlets.List().tag(sync=True)
    batchnorm = traitlets.Bool(True).tag(sync=True)
    note = traitlets.Unicode("").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)
    #: The figures where the two main sliders may go next; see ``ahead``.
    ahead = traitlets.Dict().tag(sync=True)
    #: The control that ``error`` stands beside: a name as in ``touched``, "start", or a technique's "step.NAME".
    blamed = traitlets.Unicode("").tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._generation = -1
        self._moved = (-1, "")
        self._failed = ""
        self._dense = 0
        self._afresh = False
        self._place = ""
        self._foresight: Ahead | None = None
        self._taken_off: list[str] = []
        super().__init__(session, **traits)
        self.observe(self._on_state, "state")

    def begin(self, session: Session) -> None:
        """Forget the generations of the Session before, and learn what this model has."""
        self._generation = -1
        self._moved, self._failed = (-1, ""), ""
        self._place, self.ahead = "", {}
        self._dense = sum(layer.params for layer in session.layers)
        self.batchnorm = _has_batchnorm(session.model.module)
        self.presets = [{"name": preset.name, "help": preset.help} for preset in PRESETS]
        self.advanced = _advanced_fields()
        self._say("")

    def draw(self, snapshot: Snapshot) -> None:
        """Show what was reached, and follow a Recipe that was set elsewhere."""
        if snapshot.is_sketch:
            return
        with self.publishing():
            self.note = " ".join(filter(None, (_reached(snapshot, self._dense), unshown(snapshot.recipe))))
            if self.session is not None:
                known = (*self.session.model.notes, *self.session.data.notes)  # told beside their names
                self.remarks = [*self._taken_off, *(note for note in snapshot.notes if note not in known)]
            self._say_what_failed(snapshot)
            if snapshot.generation > self._generation:
                self._generation = snapshot.generation
                self._follow(snapshot)
            self.steps = list(further(snapshot.recipe, ControlsState.from_page(self.follow)))
        self._look_ahead(snapshot.recipe)

    def _look_ahead(self, recipe: Recipe) -> None:
        """Have the page know the figures around ``recipe``, and none of other settings of the other controls."""
        with self._lock:
            state, session = ControlsState.from_page(self._shown()), self.session
            place = place_of(recipe, state)
            if session is None or place == self._place:
                return
            self._place, self.ahead = place, {}

        def told(ahead: dict[str, Any]) -> None:
            with self.publishing():
                if self._place == place and self.session is session:
                    self.ahead = ahead

        self._foresight = Ahead(session, recipe, state, told)
        self._foresight.begin()

    def mark(self, marks: Marks) -> None:
        """Say which trained steps a moved control took off."""
        names = " and ".join(step.technique.replace("_", " ") for step in marks.untrained)
        told = f"Taken off, since it was trained for other settings: {names}. The Train tab trains it again."
        rest = [note for note in self.remarks if note not in self._taken_off]
        self._taken_off = [told] if names else []
        self.remarks = [*self._taken_off, *rest]

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Start from a preset, or from the dense model; add a technique, or take it away; tell what is foreseen."""
        preset = next((preset for preset in PRESETS if preset.name == content.get("preset")), None)
        if content.get("do") == "start" and self.session is not None:
            self._start(preset.recipe(self.batchnorm).to_data() if preset else [])
        elif content.get("do") == "ahead" and self._foresight is not None:
            self._foresight.repeat()
        elif content.get("do") in ("add", "remove") and content.get("technique") in TECHNIQUES:
            self._put(str(content["technique"]), on=content["do"] == "add")

    def _put(self, technique: str, on: bool) -> None:
        from workbench.editing import step_of, with_settings, without

        def put(recipe: Recipe) -> Recipe:
            if not on:
                return without(recipe, technique)
            return recipe if step_of(recipe, technique) else with_settings(recipe, technique, {})

        with self.publishing():  # no Snapshot of it is drawn before it is known who asked for it
            try:
                self._moved = (self.change(put), f"step.{technique}")
                self._say("")
            except ValueError as problem:
                self._say(str(problem), f"step.{technique}")

    def _start(self, steps: list[Any]) -> None:
        from workbench.recipe import Recipe

        wanted = Recipe.parse(steps)
        locked = self.marks.locked
        # the generation stays behind on purpose: the controls follow what they did not set themselves,
        # and what the recipe leaves open goes back to where it began
        with self.publishing():
            self._afresh = True
            self._moved = (self.change(lambda present: keeping_locked(wanted, present, locked), whole=True), "start")
            self._say("")

    def _follow(self, snapshot: Snapshot) -> None:
        present = ControlsState() if self._afresh else ControlsState.from_page(self._shown())
        self._afresh = False
        shown = controls_from_recipe(snapshot.recipe, present)
        # `seq` tells a page that opens later which of `state` and `follow` came last
        self.follow = {**shown.to_page(), "generation": snapshot.generation, "seq": self.state.get("seq", 0)}

    def _shown(self) -> dict[str, Any]:
        """Return where the page has the controls: as it sent them last, or as it was told to put them since."""
        told_last = self.follow.get("seq", -1) >= self.state.get("seq", 0)
        return {**self.state, **self.follow} if told_last else {**self.follow, **self.state}

    def _on_state(self, change: dict[str, Any]) -> None:
        if self.session is None:
            return
        state = ControlsState.from_page(change["new"])
        touched = [name for name in change["new"].get("touched", ()) if isinstance(name, str)]
        last = touched[-1] if touched else ""
        try:
            self._set(state, touched, last)
            if not self._failed:  # what failed before may fail still: the next Snapshot tells
                self._say("")
            self._tell_what_was_put_back(state)
        except ValueError as problem:
            self._say(str(problem), self._set_without_one(state, touched) or last)

    def _set(self, state: ControlsState, touched: Sequence[str], control: str) -> None:
        move = self.state.get("seq", 0)
        self._generation = self.change(lambda present: edited(present, state, touched), move=move)
        self._moved = (self._generation, control)

    def _set_without_one(self, state: ControlsState, touched: Sequence[str]) -> str:
        """Set what can be set without one of the controls, the one touched last if possible; return its name.

        A control that was refused stays as a person left it, and must not hold up the others.
        """
        assert self.session is not None
        for name in reversed(touched):
            others = [other for other in touched if other != name]
            with contextlib.suppress(ValueError):
                if edited(self.session.recipe, state, others) != self.session.recipe:
                    self._set(state, others, others[-1])
                return name
        return ""

    def _say_what_failed(self, snapshot: Snapshot) -> None:
        """Say beside the control moved last that its recipe could not be carried out, for as long as that is so."""
        generation, control = self._moved
        if snapshot.error and snapshot.generation == generation:
            if snapshot.error != self._failed:  # otherwise it was another control's, and stays there
                self._failed = snapshot.error
                self._say(snapshot.error, control)
        elif snapshot.generation > self._generation or (self._failed and snapshot.generation == generation):
            self._say("")

    def _say(self, error: str, control: str = "") -> None:
        with self.publishing():
            self.error, self.blamed = error, control
        if not error:
            self._failed = ""

    def _tell_what_was_put_back(self, state: ControlsState) -> None:
        """Let the page follow where a moved control ruled out what others said."""
        assert self.session is not None
        shown = controls_from_recipe(self.session.recipe, state)
        if shown.tidied() != state.tidied():
            self.follow = {**shown.to_page(), "generation": self._generation, "seq": self.state.get("seq", 0)}


def _advanced_fields() -> list[dict[str, Any]]:
    """Return every technique: what it is, where it comes from, and its settings that no control stands for."""
    return [
        {
            "technique": name,
            "summary": technique.summary,
            "source": technique.source,
            "url": technique.url,
            "main": name in MAIN,
            "offered": technique.cost(technique.settings()) is not Cost.TRAINED,  # jobs train, sliders do not
            "fields": fields_of(technique, MAIN.get(name, ("bits",) if name in METHODS else ())),
        }
        for name, technique in TECHNIQUES.items()
    ]


def _reached(snapshot: Snapshot, dense: int) -> str:
    """Say which share of the weights is gone with their channels, and which is zero, by pruning or by rounding."""
    kept = sum(layer.params for layer in snapshot.layers)
    zeros = sum(layer.params * layer.sparsity for layer in snapshot.layers) / kept if kept else 0.0
    gone = 1 - kept / dense if dense and kept else 0.0
    told = []
    if gone > 0.0005:
        told.append(f"{100 * gone:.1f} % of weights removed")
    if zeros > 0.0005:
        told.append(f"{100 * zeros:.1f} % of {'the rest' if told else 'weights'} are zero")
    return ", ".join(told) + "." if told else ""


def _has_batchnorm(module: Any) -> bool:
    from torch.nn.modules.batchnorm import _BatchNorm

    return module is None or any(isinstance(part, _BatchNorm) for part in module.modules())
