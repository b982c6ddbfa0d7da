"""What runtimes make of the present setting's ONNX file: operators before, kernels after, and the time that saves."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import WorkbenchError
from workbench.jobs import Job

from ..base import plots
from ..base.study import Show, StudyView
from ..base.view import script, style
from .figure import draw_counts

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.deploy.fusion import Fusion
    from workbench.recipe import Recipe
    from workbench.session import Session

RUNTIMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
#: Seconds that each graph is timed at most.
SECONDS = 1.5


class FusionView(StudyView):
    """``found`` maps each runtime that is installed to its counts, patterns, times and graphs in short."""

    _esm = script("base/study.js", "fusion/graphs.js", "fusion/fusion.js")
    _css = style("base/study.css", "fusion/fusion.css")
    of_page = StudyView.of_page | {"runtime"}

    figure_size = (plots.DOUBLE, 2.8)

    runtimes: traitlets.Dict[str, str] = traitlets.Dict().tag(sync=True)
    runtime = traitlets.Enum(tuple(RUNTIMES), "onnxruntime").tag(sync=True, echo_update=False)
    found = traitlets.Dict().tag(sync=True)

    def clear(self) -> None:
        """Forget the graphs of the Session before."""
        self.found = {}
        self.runtimes = {name: title for name, title in RUNTIMES.items() if find_spec(name) is not None}

    def study(self, session: Session, recipe: Recipe, job: Job[Show]) -> dict[str, Any]:
        """Have each runtime optimize the file of ``recipe``, and time it."""
        from workbench.deploy.fusion import fusion

        found = {}
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(session.onnx_file(recipe))
            for place, name in enumerate(self.runtimes):
                job.check()
                job.advance(place / len(self.runtimes))
                one = fusion(path, name, shape=session.data.image_shape, seconds=SECONDS)
                found[name] = for_page(one)
        return found

    def show(self, finding: dict[str, Any]) -> None:
        """Show all runtimes' graphs."""
        self.found = finding

    def plot(self, area: FigureBase) -> None:
        """Draw the operators' counts before and after."""
        if self.runtime not in self.found:
            raise WorkbenchError("There is nothing to draw yet: ask for the fusions first.")
        draw_counts(area, self.found[self.runtime])


def for_page(found: Fusion) -> dict[str, Any]:
    """Return a fusion as plain data in short: operators as ``[op, inputs]``, kernels as ``[op, inputs, holds]``."""
    told = found.to_json()
    del told["graph"]
    told["before"] = [[node.op, list(node.inputs)] for node in found.before]
    told["after"] = [[kernel.op, list(kernel.inputs), list(kernel.holds)] for kernel in found.after]
    return told
