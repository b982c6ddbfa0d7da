"""What a student learns from its teacher; see ``workbench.techniques.trained.distill``.

Features are those of modules of the same name in both, where they have as many positions: of each size the last.
Of a teacher that has no such modules, it is the last of each size that the student has too.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.errors import WorkbenchError

from ..loop.objectives import Answers, Labels, Objective

if TYPE_CHECKING:
    from ..student import Student

#: Variance below which features count as constant.
TINY = 1e-6
#: Shares of distances and angles (Park et al. 2019, section 4.1), and the scale of similarities (Tung and Mori
#: 2019, section 4), which bring both to the size of a cross-entropy.
DISTANCES, ANGLES, SIMILARITIES = 25.0, 50.0, 3000.0


def objective_of(
    loss: str, teacher: nn.Module, temperature: float, weight: float, answers: str = "online", precision: str = "fp32"
) -> Objective:
    """Return the objective of a ``teacher`` by one of the losses; ``none`` leaves the labels alone.

    ``answers``: computed in each step, or ``cached``, once, in ``precision``.
    """
    if loss == "none":
        return Labels()
    if loss in ("kl", "mse"):
        return Answers(teacher, loss, temperature, weight, precision if answers == "cached" else None)
    return FEATURES[loss](teacher, weight)


class Features(Objective):
    """Cross-entropy and, beside it, how far the student's features are from the teacher's."""

    def __init__(self, teacher: nn.Module, weight: float) -> None:
        super().__init__()
        self._run = [teacher.eval().requires_grad_(False)]  # in a list: not a part of this module
        self._weight = weight
        self._pairs: tuple[tuple[str, str], ...] = ()
        self._theirs: dict[str, Tensor] = {}
        self._ours: dict[str, Tensor] = {}

    def watch(self, student: Student) -> None:
        """Find the features that both have, and hook them. Raises ``WorkbenchError`` where there are none."""
        shape = student.image_shape
        theirs, ours = _outputs(self._run[0], shape), _outputs(student.body, shape)
        matched = {}
        for name, output in ours.items():
            if name in theirs and theirs[name][2:] == output[2:] and self.takes(output):
                place = output[2:] if len(output) > 2 else (name,)
                matched[place] = name
        pairs = [(name, name) for name in matched.values()] or self._by_size(ours, theirs)
        if not pairs:
            raise WorkbenchError(
                f"The model has no {self.wanted} that its teacher has too: take another loss, such as kl."
            )
        self._pairs = tuple(pairs)
        for our, their in pairs:
            student.body.get_submodule(our).register_forward_hook(_keeper(self._ours, our))
            self._run[0].get_submodule(their).register_forward_hook(_keeper(self._theirs, their))
        self.meet({our: (ours[our], theirs[their]) for our, their in pairs})

    def _by_size(self, ours: dict[str, tuple[int, ...]], theirs: dict[str, tuple[int, ...]]) -> list[tuple[str, str]]:
        """Return the last features of each size that both models have, under whatever name."""
        last = [{shape[2:]: name for name, shape in found.items() if self.takes(shape)} for found in (ours, theirs)]
        return [(name, last[1][size]) for size, name in last[0].items() if size in last[1]]

    #: What a model must have.
    wanted = "features"

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether features of this shape, the batch's first, are looked at."""
        return True

    def meet(self, shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        """Get ready for features of these shapes, the student's and the teacher's."""

    @abstractmethod
    def far(self, ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
        """Return how far features are apart, a scalar."""

    def loss(self, student: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the sum of both."""
        with torch.no_grad():
            self._run[0](images)
        found = F.cross_entropy(student(images), labels)
        ours = [self._ours[name] for name, _ in self._pairs]
        theirs = [self._theirs[name] for _, name in self._pairs]
        return found + self._weight * self.far(ours, theirs)


class Hint(Features):
    """Squared error of features as a share of their variance, through a map where channels are fewer."""

    def meet(self, shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
        """Make a linear map over channels for each."""
        self.maps = nn.ModuleList(_map(ours, theirs) for ours, theirs in shapes.values())

    def far(self, ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
        """Return the mean over features."""
        errors = [
            (mapped(our) - their).square().mean() / their.var().clamp_min(TINY)
            for mapped, our, their in zip(self.maps, ours, theirs, strict=True)
        ]
        return torch.stack(errors).mean()


class Attention(Features):
    """Squared distance of attention maps: mean squares over channels, as unit vectors."""

    wanted = "feature maps"

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether there is more than one position."""
        return len(shape) == 4 and shape[2] * shape[3] > 1

    def far(self, ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
        """Return the sum over feature maps."""
        parts = [
            (_attention(our) - _attention(their)).square().sum(1).mean()
            for our, their in zip(ours, theirs, strict=True)
        ]
        return torch.stack(parts).sum()


class Relation(Features):
    """Distances and angles between the images of a batch, in the last features."""

    def far(self, ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
        """Return the weighted sum of both."""
        our, their = ours[-1].flatten(1), theirs[-1].flatten(1)
        distance = F.smooth_l1_loss(_distances(our), _distances(their))
        angle = F.smooth_l1_loss(_angles(our), _angles(their))
        return DISTANCES * distance + ANGLES * angle


class Similarity(Features):
    """Squared difference of the similarities between the images of a batch."""

    def far(self, ours: list[Tensor], theirs: list[Tensor]) -> Tensor:
        """Return the mean over features."""
        parts = [
            (_similarities(our) - _similarities(their)).square().mean() for our, their in zip(ours, theirs, strict=True)
        ]
        return SIMILARITIES * torch.stack(parts).mean()


FEATURES: dict[str, type[Features]] = {
    "hint": Hint, "attention": Attention, "relation": Relation, "similarity": Similarity,
}  # fmt: skip


def _map(ours: tuple[int, ...], theirs: tuple[int, ...]) -> nn.Module:
    """Return what maps channels to channels: nothing where they are as many."""
    if ours == theirs:
        return nn.Identity()
    return nn.Conv2d(ours[1], theirs[1], 1) if len(ours) == 4 else nn.Linear(ours[-1], theirs[-1])


def _attention(features: Tensor) -> Tensor:
    return F.normalize(features.square().mean(1).flatten(1), dim=1)


def _distances(features: Tensor) -> Tensor:
    """Return the distances between all pairs, as shares of their mean."""
    found = torch.pdist(features)
    return found / found.mean().clamp_min(TINY)


def _angles(features: Tensor) -> Tensor:
    """Return the cosines of the angles at each image between all others."""
    between = F.normalize(features[None] - features[:, None], dim=2)
    return torch.bmm(between, between.transpose(1, 2)).flatten()


def _similarities(features: Tensor) -> Tensor:
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


def _keeper(kept: dict[str, Tensor], name: str) -> Any:
    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        kept[name] = output

    return keep


def _outputs(module: nn.Module, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shape of what each inner module gives for one image, in the order in which they run.

    The model's answer is not among them.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    handles = []
    for name, part in module.named_modules():
        if name:
            handles.append(part.register_forward_hook(_noter(shapes, name)))
    training = module.training
    with torch.no_grad():
        answer = module.eval()(torch.zeros(1, *shape))
    module.train(training)
    for handle in handles:
        handle.remove()
    return {name: found for name, found in shapes.items() if found != tuple(answer.shape)}


def _noter(shapes: dict[str, tuple[int, ...]], name: str) -> Any:
    def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim in (2, 4):
            shapes.pop(name, None)
            shapes[name] = tuple(output.shape)

    return note
