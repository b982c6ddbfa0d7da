"""How a trained technique trains: what learns, by which loss, and what happens between the steps.

A Method is made from its technique's settings alone, once where the student is made and once in the process
that trains. All that it has to remember while training are buffers of the student's constraints, so that a
checkpoint holds it; everything else follows from the Moment.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from workbench.errors import WorkbenchError
from workbench.techniques.draft import Draft
from workbench.techniques.storage import Storage
from workbench.techniques.trained import TrainingSettings

from .constraints.base import Part
from .constraints.constraining import Learns, constraint_for
from .constraints.folding import FoldedNorm
from .loop.objectives import Labels, Objective

if TYPE_CHECKING:
    from workbench.recipe import Recipe
    from workbench.subject import Subject

    from .student import Student

#: Share of all steps over which the step size rises to its highest.
WARM_UP = 0.05
#: Settings that say what learns of storages.
LEARNS = tuple(field.name for field in fields(Learns))

S = TypeVar("S", bound=TrainingSettings)


@dataclass(frozen=True)
class Moment:
    """Where a training stands before a step: ``step`` of ``total``, ``each`` of them in an epoch."""

    step: int
    total: int
    each: int

    @property
    def share(self) -> float:
        """The share of the training that is over, 0 to 1."""
        return self.step / max(1, self.total)

    def at(self, share: float) -> int:
        """Return the step, one of the training's, at which ``share`` of it is over."""
        return min(round(share * self.total), self.total - 1)


def cubic(share: float) -> float:
    """Return how far a rise has come after ``share`` of its time, fast at first (Zhu and Gupta 2017)."""
    return 1 - (1 - min(1.0, share)) ** 3


@dataclass(frozen=True, eq=False)
class Learning:
    """A tensor that may learn: its values, how it is stored, and where it was pruned (zero in ``zeroed``).

    ``settings`` are those of its layer where the step acts on the layer and the tensor is its weight; ``whole``
    are its values before they were rounded, where the draft has them, ``axis`` counts its outputs.
    """

    name: str
    values: Tensor
    storage: Storage | None
    zeroed: Tensor | None
    settings: Any = None
    whole: Tensor | None = None
    axis: int = 0


class Method(Generic[S]):
    """Fine-tuning; subclasses change what is different."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @property
    def epochs(self) -> int:
        """Passes over the images in all."""
        return self.settings.epochs

    def constrain(self, tensor: Learning) -> Part | None:
        """Return what keeps ``tensor`` compressed while it learns; None leaves it as it is."""
        settings: Any = self.settings
        learns = Learns(**{name: getattr(settings, name) for name in LEARNS if hasattr(settings, name)})
        return constraint_for(tensor.values, tensor.storage, tensor.zeroed, learns, tensor.whole)

    def prepare(self, student: Student, draft: Draft, subject: Subject, recipe: Recipe) -> None:
        """Tell the student what follows from the model and the recipe that this step is of, once it is made."""

    def objective(self, teacher: nn.Module) -> Objective:
        """Return what a step makes smaller."""
        return Labels()

    def begin(self, student: Student) -> None:
        """Get the student ready, once, before its first step."""

    def set_mode(self, student: Student, moment: Moment) -> None:
        """Put the student into the mode in which it is trained."""
        student.train()
        if self.freezes(moment):
            for module in student.body.modules():
                if isinstance(module, _BatchNorm | FoldedNorm):
                    module.eval()

    def freezes(self, moment: Moment) -> bool:
        """Whether BatchNorm keeps its statistics from now on."""
        until = getattr(self.settings, "batchnorm_until", 1.0)
        return getattr(self.settings, "batchnorm", "train") == "freeze" or (until < 1 and moment.share >= until)

    def pace(self, moment: Moment) -> float:
        """Return the share of the highest step size to take."""
        if self.settings.schedule == "constant":
            return 1.0
        return cosine(moment.step, moment.total)

    def paces(self) -> dict[str, float]:
        """Return parameters that learn at a pace of their own: the last part of their name → times the others'."""
        return {}

    def before_step(self, student: Student, optimizer: Any, moment: Moment) -> None:
        """Change masks, thresholds and the like."""

    def penalty(self, student: Student, moment: Moment) -> Tensor | None:
        """Return what is added to the loss."""
        return None

    def after_backward(self, student: Student, optimizer: Any, moment: Moment) -> None:
        """Change gradients, or learn from them, before the optimizer takes its step."""

    def judges(self, epoch: int) -> bool:
        """Whether the validation accuracy is measured after this epoch, counted from 1."""
        return True

    def finished(self, moment: Moment) -> bool:
        """Whether the student is now as compressed as it will be, so that a state may be the best one."""
        return True


def require(found: bool, technique: str, what: str, why: str) -> None:
    """Raise ``WorkbenchError`` where a step would do nothing but train on."""
    if not found:
        raise WorkbenchError(f"The step '{technique}' found no weights {what}: {why}.")


def cosine(step: int, total: int) -> float:
    """Return half a cosine from 1 to 0 after a short linear warm-up."""
    warm = max(1, round(WARM_UP * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, total - warm)))
