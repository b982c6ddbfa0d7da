"""Split inference: the first layers on a device, the rest on a server, and what each cut costs over a link.

What the cuts need is measured once for a setting; over another link, or with another device, they are priced
anew without running anything. How fast device and server are is foretold of the machines chosen, or typed by
hand. The cut chosen can be run as two processes over a socket.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import WorkbenchError
from workbench.jobs import Job

from ..base import plots
from ..base.study import Show, StudyView
from ..base.view import script, style
from .figure import draw_cuts

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.deploy.format import Source
    from workbench.deploy.split.machines import Yardstick
    from workbench.deploy.split.plan import CutFigures
    from workbench.recipe import Recipe
    from workbench.session import Session

HERE = "this-machine"
#: Images whose values are sent while cuts are measured, that span the grids, and that a real run sends.
IMAGES, CALIBRATION, RUN = 64, 64, 32
#: Digits of a time, of bytes and of a share that a page needs.
_ROUNDED = {"device_ms": 4, "network_ms": 4, "server_ms": 4, "total_ms": 4, "bytes": 0, "agreement": 4}


@dataclass(frozen=True)
class Finding:
    """What was measured of a setting: its cuts with values sent in so many bits, and the whole."""

    cuts: tuple[CutFigures, ...]
    yardstick: Yardstick
    bits: int


class SplitView(StudyView):
    """``plan`` holds every cut's figures for the link and the machines chosen; ``trial`` is the last real run.

    ``link`` names a network, or gives one's own ``mbps`` and ``rtt_ms``. ``device`` and ``server`` name machines
    of ``machines``, which holds how they compare to this one; where ``slowdown`` (of the device) or ``speedup``
    (of the server) is given, that counts instead.
    """

    _esm = script("base/study.js", "split/chart.js", "split/split.js")
    _css = style("base/study.css", "split/split.css")
    of_page = StudyView.of_page | {"link", "device", "server", "slowdown", "speedup", "bits"}

    figure_size = (plots.DOUBLE, 2.6)

    networks: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    link = traitlets.Dict({"name": "wifi"}).tag(sync=True, echo_update=False)
    device = traitlets.Unicode("raspberry-pi-4").tag(sync=True, echo_update=False)
    server = traitlets.Unicode(HERE).tag(sync=True, echo_update=False)
    slowdown = traitlets.Float(None, allow_none=True).tag(sync=True, echo_update=False)
    speedup = traitlets.Float(None, allow_none=True).tag(sync=True, echo_update=False)
    machines: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    bits = traitlets.Int(8, min=1, max=8).tag(sync=True, echo_update=False)
    images = traitlets.Int(IMAGES).tag(sync=True)
    plan = traitlets.Dict().tag(sync=True)
    trial = traitlets.Dict().tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._finding: Finding | None = None
        super().__init__(session, **traits)
        self.observe(lambda _: self._price_anew(), ["link", "device", "server", "slowdown", "speedup"])
        self.observe(lambda _: self.refresh(), "bits")

    def wish(self) -> tuple[Any, ...]:
        """Return the bits of a value that is sent."""
        return (self.bits,)

    def clear(self) -> None:
        """Forget the cuts of the Session before."""
        from workbench.deploy.split.plan import NETWORKS

        self._finding, self.plan, self.trial = None, {}, {}
        self.machines = self.machines or [_named(name, title) for name, title in _machines().items()]
        self.networks = self.networks or [asdict(network) for network in NETWORKS.values()]

    def study(self, session: Session, recipe: Recipe, job: Job[Show]) -> Finding:
        """Measure every cut of the model under ``recipe``, and the whole, by which machines are compared."""
        from workbench.deploy.split.machines import Yardstick
        from workbench.deploy.split.plan import measure_cuts

        def tell(share: float) -> None:
            job.check()
            job.advance(share)

        bits = self.bits
        source, graph = _graph(session, recipe)
        assert source.calibration is not None
        images = session.normalization(session.split.images[session.split.drawn(IMAGES)])
        yardstick = Yardstick.of(source.graph.build(source.compressed.tensors, {}), images[:1])
        return Finding(measure_cuts(graph, source.calibration[:CALIBRATION], images, bits, tell), yardstick, bits)

    def show(self, finding: Finding) -> None:
        """Price the cuts for the present link and machines."""
        if finding is not self._finding:
            self._finding, self.trial = finding, {}
        self._price()

    def receive(self, content: dict[str, Any], buffers: list[Any]) -> None:
        """Measure, stop, or run the cut that is named as two processes."""
        if content.get("do") == "run" and self.session is not None:
            session, recipe, cut, bits = self.session, self.session.recipe, str(content.get("cut")), self.bits
            self.launch("run", lambda job: self._try(session, recipe, cut, bits))
        else:
            super().receive(content, buffers)

    def plot(self, area: FigureBase) -> None:
        """Draw what each cut costs."""
        if not self.plan:
            raise WorkbenchError("There is nothing to draw yet: measure the cuts first.")
        draw_cuts(area, dict(self.plan))

    def _try(self, session: Session, recipe: Recipe, cut: str, bits: int) -> Show:
        from workbench.deploy.split.parts import find_part, parts_of
        from workbench.deploy.split.trial import try_split

        source, graph = _graph(session, recipe)
        assert source.calibration is not None
        part = find_part(parts_of(graph), cut)
        images = session.normalization(session.split.images[session.split.drawn(RUN)])
        found = try_split(part, source.calibration[:CALIBRATION], images, bits).to_json()

        def show() -> None:
            self.trial = {**found, "recipe": recipe.hash, "bits": bits}

        return show

    def _price_anew(self) -> None:
        with self.publishing():
            self.problem = ""
            self._price()

    def _price(self) -> None:
        finding = self._finding
        if finding is None:
            return
        from workbench.deploy.split.machines import pace_of, paces
        from workbench.deploy.split.plan import price_cuts
        from workbench.measure.devices import targets

        try:
            self.machines = [_rounded(pace.to_json()) for pace in paces(targets(), finding.yardstick)]
            slowdown = pace_of(self.device, finding.yardstick).slower if self.slowdown is None else self.slowdown
            speedup = 1 / pace_of(self.server, finding.yardstick).slower if self.speedup is None else self.speedup
            plan = price_cuts(
                finding.cuts, _network(self.link), slowdown=slowdown, speedup=speedup, bits=finding.bits, images=IMAGES
            ).to_json()
        except WorkbenchError as refused:
            self.problem = str(refused)
            return
        for cut in plan["cuts"]:
            cut.update({name: round(cut[name], digits) for name, digits in _ROUNDED.items()})
        self.plan = plan


def _machines() -> dict[str, str]:
    from workbench.measure.devices.target import device_titles

    return {HERE: "this machine", **device_titles()}


def _named(name: str, title: str) -> dict[str, Any]:
    """Return a machine of which nothing is foretold before the model has been timed here."""
    return {"device": name, "title": title, "slower": None, "low": None, "high": None, "anchors": 0}


def _rounded(pace: dict[str, Any]) -> dict[str, Any]:
    return {**pace, **{name: float(f"{pace[name]:.3g}") for name in ("slower", "low", "high")}}


def _network(link: dict[str, Any]) -> Any:
    from workbench.deploy.split.plan import NETWORKS, Network
    from workbench.deploy.split.wire import SplitError

    if link.get("name") in NETWORKS:
        return NETWORKS[str(link["name"])]
    try:
        return Network("your own", float(link["mbps"]), float(link["rtt_ms"]))
    except (KeyError, TypeError, ValueError) as error:
        raise SplitError("A network of your own needs megabits a second and milliseconds there and back.") from error


def _graph(session: Session, recipe: Recipe) -> tuple[Source, Any]:
    """Return the model under ``recipe`` as ONNX in floats, its rounding included, and images to calibrate by."""
    from workbench.deploy.split.wire import SplitError
    from workbench.deploy.writing import source_for

    source = source_for(session, recipe)
    if source.calibration is None:
        raise SplitError(f"'{session.data.name}' has no calibration images, which the grid of a sent value needs.")
    return source, source.graph.build(source.compressed.tensors, source.compressed.grids)
