"""The layers as a table: what each one is and costs, and its own ratio and bits.

What stays (names, shapes, dense parameters) is sent once. What moves is one trait a column, each a typed
array with one number a layer, so that a move sends only the columns it changed and the page rewrites only
the cells whose text did.

A hand on a layer's slider is answered at once on the page, before the kernel knows. Its messages carry a
growing ``seq``; ``done`` is the last one whose change is in the figures shown, and until it comes the
page keeps showing what the hand asked for.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import traitlets

from workbench.analyze.studies import Studies, points_lost, studies_of
from workbench.editing import dial_values, step_of, stored_by, with_layers, without_layers
from workbench.errors import WorkbenchError

from ..base import plots
from ..base.view import View, script, style
from ..controls.state import BITS, OFF

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.measure.estimate import Latency
    from workbench.models.layers import Layer
    from workbench.recipe import Recipe
    from workbench.session import Session
    from workbench.snapshot import Snapshot

    from ..base.marks import Marks

OWN_RATIO, OWN_WIDTH = 1, 2
_NUMBER = re.compile(r"\+?\d+([.,]\d+)?|[.,]\d+")


def _column() -> traitlets.Bytes:
    return traitlets.Bytes(b"").tag(sync=True, echo_update=False)


class LayersView(View):
    """A table of the layers: sort, search, select, and give each its own ratio and bits, or lock it."""

    figure_size: ClassVar[tuple[float, float]] = (plots.DOUBLE, 3.8)
    _esm = script("layers/courier.js", "layers/columns.js", "layers/rows.js", "layers/layers.js")
    _css = style("layers/layers.css")
    _positions: ClassVar[dict[str, Any]] = {"bits": list(BITS), "off": OFF}

    layers: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    positions = traitlets.Dict(_positions).tag(sync=True)
    #: The columns chosen by the person; none means as many as fit.
    columns: traitlets.List[str] = traitlets.List(traitlets.Unicode()).tag(sync=True, echo_update=False)
    selected: traitlets.List[int] = traitlets.List().tag(sync=True)
    locked: traitlets.List[int] = traitlets.List().tag(sync=True)

    sparsity = _column()  # float32, share of zeros
    bits = _column()  # uint8, what a stored weight is written in
    bytes = _column()  # uint32, in the packed file
    params = _column()  # uint32
    macs = _column()  # float64
    times = _column()  # float32, share of the predicted latency; NaN without a kernel of its own
    ratios = _column()  # float32, the ratio in force; NaN where a threshold is in force instead
    widths = _column()  # uint8, the bits in force
    own = _column()  # uint8, OWN_RATIO | OWN_WIDTH
    sensitivity = _column()  # float32, points lost; NaN where unknown
    shapes: traitlets.List[list[int]] = traitlets.List().tag(sync=True)  # where channels were removed
    total = traitlets.Int(0).tag(sync=True)  # bytes of the packed file
    done = traitlets.Int(0).tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._names: tuple[str, ...] = ()
        self._drawn: tuple[int, Latency | None] = (-1, None)
        self._asked: deque[tuple[int, int]] = deque()
        self._unsubscribe: Callable[[], None] = lambda: None
        super().__init__(session, **traits)

    def begin(self, session: Session) -> None:
        """List the layers; what moves is empty until the first Snapshot."""
        self._drawn = (-1, None)
        self._asked.clear()
        self._names = tuple(layer.name for layer in session.layers)
        self.layers = [
            {
                "name": layer.name,
                "type": layer.type,
                "shape": list(layer.shape),
                "params": layer.params,
                "macs": layer.macs,
            }
            for layer in session.layers
        ]
        self.sensitivity = self.times = b""

    def attach(self, session: Session) -> None:
        """Show ``session`` from now on, and what its sweeps find."""
        super().attach(session)
        studies = studies_of(session)
        self._unsubscribe = studies.subscribe(self._show_sweep)
        self._show_sweep(studies)

    def detach(self) -> None:
        """Stop drawing."""
        self._unsubscribe()
        super().detach()

    def mark(self, marks: Marks) -> None:
        """Show which layers are selected and locked."""
        places = {name: place for place, name in enumerate(self._names)}
        self.selected = [places[name] for name in marks.selected if name in places]
        self.locked = sorted(places[name] for name in marks.locked if name in places)

    def draw(self, snapshot: Snapshot) -> None:
        """Send the columns once for each recipe, and anew when its latency is better known."""
        session, moment = self.session, (snapshot.generation, snapshot.latency)
        if session is None or snapshot.is_sketch or moment == self._drawn:
            return
        # of another recipe than the Session's they would have to be computed anew
        times = session.time_shares() if session.recipe == snapshot.recipe else None
        with self.publishing():
            self._drawn = moment
            self._draw_settings(snapshot.recipe)
            self._draw_figures(snapshot)
            if times is not None:
                shares = [times.get(layer.weight, np.nan) for layer in session.layers]
                self.times = np.array(shares, np.float32).tobytes()
            while self._asked and self._asked[0][1] <= snapshot.generation:
                self.done = self._asked.popleft()[0]

    def show_sensitivity(self, values: Mapping[str, float]) -> None:
        """Show how many points each layer costs; layers that ``values`` leaves out are unknown."""
        with self.publishing():
            self.sensitivity = np.array([values.get(name, np.nan) for name in self._names], np.float32).tobytes()

    def _show_sweep(self, studies: Studies) -> None:
        """Show what the sweeps found, once one has ended."""
        if studies.found and not studies.running:
            self.show_sensitivity(points_lost(studies.found))

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Do what the page asked for, and answer, so that it sends the next."""
        problem = ""
        try:
            if self.session is not None:
                self._do(content)
        except ValueError as refused:
            problem = str(refused)
        finally:
            self.send({"seq": content.get("seq"), "problem": problem})

    def plot(self, area: FigureBase) -> None:
        """Draw each layer's bytes before and after, its zeros and its bits."""
        from .figure import plot_layers

        if self.session is not None:
            plot_layers(area, self.session)

    def _do(self, content: Mapping[str, Any]) -> None:
        names = self._named(content.get("layers", ()))
        free = [name for name in names if name not in self.marks.locked]
        match content.get("do"):
            case "select":
                self.marks.select(*names)
            case "set":
                column, value = _wish(content)
                values = dict.fromkeys(free, value)
                self._edit(content, lambda recipe: with_layers(recipe, technique_of(column, recipe), values))
            case "clear":
                only = content.get("column")
                self._edit(
                    content,
                    lambda recipe: without_layers(recipe, free, technique_of(str(only), recipe) if only else None),
                )
            case "lock":
                self._edit(content, lambda recipe: self._pinned(recipe, free))
                self.marks.lock(names)
            case "unlock":
                self.marks.lock(names, locked=False)

    def _edit(self, content: Mapping[str, Any], edit: Any) -> None:
        seq, generation = int(content.get("seq", 0)), self.change(edit)
        with self.publishing():
            if self._drawn[0] >= generation:  # it was drawn while we were still here
                self.done = seq
            else:
                self._asked.append((seq, generation))

    def _named(self, places: Iterable[int]) -> list[str]:
        return [self._names[place] for place in places if 0 <= place < len(self._names)]

    def _pinned(self, recipe: Recipe, names: Sequence[str]) -> Recipe:
        """Return the recipe in which each of ``names`` has its present ratio and bits as its own."""
        if not names:
            return recipe
        assert self.session is not None
        ratios = reached_ratios(self.session, recipe, names)
        stores = stored_by(recipe)
        bits = dial_values(recipe, stores, names)
        recipe = with_layers(recipe, "prune", ratios)
        return with_layers(recipe, stores, {name: bits[name].value for name in names})

    def _draw_settings(self, recipe: Recipe) -> None:
        ratios = dial_values(recipe, "prune", self._names)
        widths = dial_values(recipe, stored_by(recipe), self._names)
        step = step_of(recipe, "prune")
        by_threshold = step is not None and getattr(step.settings, "threshold", None) is not None
        self.ratios = np.array(
            [np.nan if by_threshold and not dial.own else dial.value for dial in ratios.values()], np.float32
        ).tobytes()
        self.widths = np.array([dial.value for dial in widths.values()], np.uint8).tobytes()
        self.own = np.array(
            [OWN_RATIO * ratios[name].own + OWN_WIDTH * widths[name].own for name in self._names], np.uint8
        ).tobytes()

    def _draw_figures(self, snapshot: Snapshot) -> None:
        layers = snapshot.layers
        if not layers:  # not yet, or the recipe could not be carried out
            return
        self.sparsity = np.array([layer.sparsity for layer in layers], np.float32).tobytes()
        self.bits = np.array([round(layer.bits) for layer in layers], np.uint8).tobytes()
        self.bytes = np.array([layer.bytes for layer in layers], np.uint32).tobytes()
        self.params = np.array([layer.params for layer in layers], np.uint32).tobytes()
        self.macs = np.array([layer.macs for layer in layers], np.float64).tobytes()
        shapes = [list(layer.shape) for layer in layers]
        self.shapes = [] if shapes == [row["shape"] for row in self.layers] else shapes
        self.total = snapshot.size.bytes if snapshot.size else 0


def technique_of(column: str, recipe: Recipe) -> str:
    """Return the technique whose dial a column sets."""
    return "prune" if column == "ratio" else stored_by(recipe)


def _wish(content: Mapping[str, Any]) -> tuple[str, float]:
    """Return the column and the value that the page asked for, typed or by a slider."""
    column = str(content.get("column"))
    read = read_ratio if column == "ratio" else read_bits
    given = content.get("value")
    return column, read(given) if isinstance(given, str) else float(given or 0)


def read_ratio(text: str) -> float:
    """Return a typed ratio as a share, from 0 to 0.999: "60", "60 %" and "12.5" are per cent.

    Raises ``WorkbenchError`` with one sentence for what is no ratio, or could mean two.

    >>> read_ratio("60"), read_ratio("0.6 %")
    (0.6, 0.006)
    """
    given = " ".join(text.split())
    bare = given.removesuffix("%").strip()
    if not _NUMBER.fullmatch(bare):
        raise WorkbenchError(f"“{_short(given)}” is not a ratio: type a number from 0 to 99, in per cent.")
    value = float(bare.replace(",", "."))
    if bare == given and 0 < value < 2 and not value.is_integer():
        raise WorkbenchError(f"{given} could mean {value:g} % or {100 * value:g} %: type it with %.")
    if value > 99.9:
        raise WorkbenchError(f"{_short(given)} is too much: a ratio is from 0 to 99.9 %.")
    return round(value / 100, 5)


def read_bits(text: str) -> int:
    """Return a typed bit-width: 1 to 8, 16, or 32 for "off".

    Raises ``WorkbenchError`` with one sentence for what no layer can have.
    """
    given = " ".join(text.split())
    known = {str(bits): bits for bits in BITS} | {"off": OFF, "fp32": OFF, "fp16": 16}
    bits = known.get(re.sub(r"(?<=\d) ?bits?$", "", given.lower()))
    if bits is None:
        raise WorkbenchError(f"“{_short(given)}” is not a bit-width: type 1 to 8, 16, or off.")
    return bits


def _short(text: str) -> str:
    return text if len(text) <= 20 else text[:19] + "…"


def reached_ratios(session: Session, recipe: Recipe, names: Sequence[str]) -> dict[str, float]:
    """Return the ratio that would keep each layer pruned as it is now, rounded to 0.001.

    That is the ratio in force, except where layers are ranked together or cut at a magnitude: there it
    is the share that was really removed.
    """
    step, dials = step_of(recipe, "prune"), dial_values(recipe, "prune", names)
    layers = {layer.name: layer for layer in session.layers}
    found = {}
    for name in names:
        settings: Any = step.settings_of(name) if step else None
        together = settings is not None and (settings.scope == "global" or settings.threshold is not None)
        acts = together and (settings.threshold is not None or dials[name].value > 0)
        found[name] = min(_removed(session, layers[name]), 0.999) if acts else dials[name].value
    return found


def _removed(session: Session, layer: Layer) -> float:
    """Return the share of a layer's filters that are gone or, where none is, of its weights."""
    compressed = session.compressed
    threshold = compressed.thresholds.get(layer.name)
    if threshold is None:
        axis = 1 if "Transpose" in layer.type else 0  # where a weight's output channels lie
        kept = next(figures.shape[axis] for figures in compressed.layers if figures.name == layer.name)
        return round(1 - kept / layer.shape[axis], 3)
    weights = [session.model.module.get_parameter(name).detach() for name in layer.weights]
    pruned = sum(int((weight.abs() <= threshold).sum()) for weight in weights)
    return round(pruned / max(1, sum(weight.numel() for weight in weights)), 3)
