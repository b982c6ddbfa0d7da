"""A pipeline: the layers balanced over processes by measured times, run for real, and foretold for more of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from workbench.errors import WorkbenchError
from workbench.jobs import Job

from ..base import plots
from ..base.study import Show, StudyView
from ..base.view import script, style
from .figure import draw_speedups

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

    from workbench.recipe import Recipe
    from workbench.session import Session

#: Batches that are run, of ``MICROBATCHES`` microbatches each, and rounds.
BATCHES, MICROBATCHES, ROUNDS = 2, 8, 2


class PipelineView(StudyView):
    """``found`` holds the run of ``stages`` processes beside one, and what more would give."""

    _esm = script("base/study.js", "pipeline/pipeline.js")
    _css = style("base/study.css", "pipeline/pipeline.css")
    of_page = StudyView.of_page | {"stages", "microbatch"}

    figure_size = (plots.SINGLE, 2.4)

    stages = traitlets.Int(2, min=2, max=8).tag(sync=True, echo_update=False)
    microbatch = traitlets.Int(16, min=1, max=128).tag(sync=True, echo_update=False)
    cores = traitlets.Int(0).tag(sync=True)
    found = traitlets.Dict().tag(sync=True)

    def __init__(self, session: Session | None = None, **traits: Any) -> None:
        super().__init__(session, **traits)
        self.observe(lambda _: self.refresh(), ["stages", "microbatch"])

    def wish(self) -> tuple[Any, ...]:
        """Return how many processes, and images in a microbatch."""
        return self.stages, self.microbatch

    def clear(self) -> None:
        """Forget the runs of the Session before."""
        from workbench.deploy.pipeline.run import usable_cores

        self.found, self.cores = {}, len(usable_cores())

    def study(self, session: Session, recipe: Recipe, job: Job[Show]) -> dict[str, Any]:
        """Balance the model under ``recipe``, and run it in one process and in several."""
        from workbench.deploy.pipeline.compare import compare_pipeline

        def tell(share: float) -> None:
            job.check()
            job.advance(share)

        images = session.split.images[: BATCHES * MICROBATCHES * self.microbatch]
        return compare_pipeline(
            session.compress(recipe).fresh_module(), session.normalization(images), self.stages,
            microbatch=self.microbatch, microbatches=MICROBATCHES, rounds=ROUNDS, tell=tell,
        ).to_json()  # fmt: skip

    def show(self, finding: dict[str, Any]) -> None:
        """Show a comparison."""
        self.found = finding

    def plot(self, area: FigureBase) -> None:
        """Draw what more stages would give."""
        if not self.found:
            raise WorkbenchError("There is nothing to draw yet: run the pipeline first.")
        draw_speedups(area, dict(self.found))
