"""Split inference: the first layers on a device, the rest on a server, and what each cut costs over a link.

What the cuts need is measured once for a setting; over another link, or with another device, they are priced
anew without running anything. The cut chosen can be run as two processes over a socket.
"""

from __future__ import annotations

from dataclasses import asdict
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
    from workbench.deploy.split.plan import CutFigures
    from workbench.recipe import Recipe
    from workbench.session import Session

#: Images whose values are sent while cuts are measured, that span the grids, and that a real run sends.
IMAGES, CALIBRATION, RUN = 64, 64, 32
#: Digits of a time, of bytes and of a share that a page needs.
_ROUNDED = {"device_ms": 4, "network_ms": 4, "server_ms": 4, "total_ms": 4, "bytes": 0, "agreement": 4}


class SplitView(StudyView):
    """``plan`` holds every cut's figures for the link and the machines chosen; ``trial`` is the last real run.

    ``link`` names a network, or gives one's own ``mbps`` and ``rtt_ms``; ``slowdown`` says how many times slower
    than this machine the device is, ``speedup`` how many times faster the server.
    """

    _esm = script("base/study.js", "split/chart.js", "split/split.js")
    _css = style("base/study.css", "split/split.css")
    of_page = StudyView.of_page | {"link", "slowdown", "speedup", "bits"}

    figure_size = (plots.DOUBLE, 2.6)

    networks: traitlets.List[dict[str, Any]] = traitlets.List().tag(sync=True)
    link = traitlets.Dict({"name": "wifi"}).tag(sync=True, echo_update=False)
    slowdown = traitlets.Float(10.0).tag(sync=True, echo_update=False)
    speedup = traitlets.Float(1.0).tag(sync=True, echo_update=False)
    bits = traitlets.Int(8, min=1, max=8).tag(sync=True, echo_update=False)
    images = traitlets.Int(IMAGES).tag(sync=True)
    plan = traitlets.Dict().tag(sync=True)
    trial = traitlets.Dict().tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        self._figures: tuple[CutFigures, ...] = ()
        super().__init__(session, **traits)
        self.observe(lambda _: self._price_anew(), ["link", "slowdown", "speedup"])
        self.observe(lambda _: self.refresh(), "bits")

    def wish(self) -> tuple[Any, ...]:
        """Return the bits of a value that is sent."""
        return (self.bits,)

    def clear(self) -> None:
        """Forget the cuts of the Session before."""
        from workbench.deploy.split.plan import NETWORKS

        self._figures, self.plan, self.trial = (), {}, {}
        self.networks = self.networks or [asdict(network) for network in NETWORKS.values()]

    def study(self, session: Session, recipe: Recipe, job: Job[Show]) -> tuple[CutFigures, ...]:
        """Measure every cut of the model under ``recipe``."""
        from workbench.deploy.split.plan import measure_cuts

        def tell(share: float) -> None:
            job.check()
            job.advance(share)

        source, graph = _graph(session, recipe)
        assert source.calibration is not None
        images = session.normalization(session.split.images[:IMAGES])
        return measure_cuts(graph, source.calibration[:CALIBRATION], images, self.bits, tell)

    def show(self, finding: tuple[CutFigures, ...]) -> None:
        """Price the cuts for the present link."""
        if finding is not self._figures:
            self._figures, self.trial = finding, {}
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
        images = session.normalization(session.split.images[:RUN])
        found = try_split(part, source.calibration[:CALIBRATION], images, bits).to_json()

        def show() -> None:
            self.trial = {**found, "recipe": recipe.hash, "bits": bits}

        return show

    def _price_anew(self) -> None:
        with self.publishing():
            self.problem = ""
            self._price()

    def _price(self) -> None:
        if not self._figures:
            return
        from workbench.deploy.split.plan import price_cuts

        try:
            plan = price_cuts(
                self._figures, _network(self.link), slowdown=self.slowdown, speedup=self.speedup, bits=self.bits,
                images=IMAGES,
            ).to_json()  # fmt: skip
        except WorkbenchError as refused:
            self.problem = str(refused)
            return
        for cut in plan["cuts"]:
            cut.update({name: round(cut[name], digits) for name, digits in _ROUNDED.items()})
        self.plan = plan


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
