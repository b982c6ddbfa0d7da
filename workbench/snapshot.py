"""What a Session tells its listeners: one moment of a recipe's figures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from workbench.compressed import LayerFigures
from workbench.errors import WorkbenchError
from workbench.measure.estimate import Estimate, Latency, Size
from workbench.measure.flips import Flip
from workbench.measure.sampling import Figures
from workbench.recipe import Recipe


@dataclass(frozen=True)
class Baseline:
    """The figures of the uncompressed model; each is None until it is known.

    Where the images have no labels, ``accuracy``, ``loss`` and ``top5`` stay None, and ``agreement`` with itself is 1.
    """

    accuracy: Estimate | None = None
    size: Size | None = None
    latency: Latency | None = None
    loss: Estimate | None = None
    top5: Estimate | None = None
    agreement: Estimate | None = None

    @property
    def score(self) -> Estimate | None:
        """What settings are judged by: the accuracy, or the agreement where the images have no labels."""
        return self.accuracy or self.agreement


@dataclass(frozen=True)
class Foreseen:
    """A recipe's figures that were found before anyone asked: its size, and where images were run, the ``score``.

    That is the first figure that a Session tells of it, of the same images; ``agreement`` is the share of the dense
    model's answers.
    """

    size: Size
    score: Estimate | None = None
    agreement: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """One moment of a Session; a figure is None until it is known.

    ``generation`` grows with every recipe set; ``settled`` tells that nothing more will come for this
    one. ``runtime`` names what ran the images. ``accuracy``, ``top5`` and ``loss`` stay None where the images have no
    labels; ``agreement``, the share of the dense model's answers, is always there. ``predicted`` is the ``score`` from
    a surrogate, where one has been measured. ``flips`` are the first images, in the sample's order, that the compressed
    model answers otherwise than the dense one. ``notes`` are sentences on model, data and what the steps did;
    ``doing`` says what is under way before there is a figure. ``error`` is a sentence where the recipe could not be
    carried out.
    """

    generation: int
    recipe: Recipe
    baseline: Baseline = field(default_factory=Baseline)
    accuracy: Estimate | None = None
    top5: Estimate | None = None
    loss: Estimate | None = None
    agreement: Estimate | None = None
    predicted: Estimate | None = None
    size: Size | None = None
    latency: Latency | None = None
    measured_latency: Latency | None = None
    layers: tuple[LayerFigures, ...] = ()
    flips: tuple[Flip, ...] = ()
    runtime: str = ""
    settled: bool = False
    notes: tuple[str, ...] = ()
    doing: str = ""
    error: str | None = None

    @property
    def recipe_hash(self) -> str:
        """The hash of ``recipe``."""
        return self.recipe.hash

    @property
    def score(self) -> Estimate | None:
        """What settings are judged by: the accuracy, or the agreement where the images have no labels."""
        return self.accuracy or self.agreement

    @property
    def is_sketch(self) -> bool:
        """Whether it tells a deep model's size alone; latency and layers follow at once."""
        return self.size is not None and not self.layers

    def with_figures(self, figures: Figures, flips: tuple[Flip, ...] = (), labelled: bool = True) -> Snapshot:
        """Return the same moment with the figures of a look; of images without labels only the agreement is told."""
        if not labelled:
            return replace(self, agreement=figures.agreement, flips=flips)
        return replace(
            self,
            accuracy=figures.accuracy,
            top5=figures.top5,
            loss=figures.loss,
            agreement=figures.agreement,
            flips=flips,
        )


def sentence(error: BaseException) -> str:
    """Return one sentence for a person; errors of the workbench already are one."""
    if isinstance(error, WorkbenchError):
        return str(error)
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{type(error).__name__}: {text[:300]}"
