"""Layer-wise reconstruction; see ``workbench.techniques.trained.reconstruct``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.calls import changed
from workbench.techniques.trained import ReconstructSettings

from ..loop.objectives import Objective
from ..method import Method, Moment

if TYPE_CHECKING:
    from ..student import Student

#: Epochs between two looks at the validation split.
JUDGED = 5
#: Variance below which an output counts as constant.
TINY = 1e-6


class Reconstruct(Method[ReconstructSettings]):
    """Every layer learns to give what it gave before, on the inputs that it now has."""

    def objective(self, teacher: nn.Module) -> Objective:
        """Return the loss over the layers' outputs."""
        return LayerOutputs(teacher)

    def set_mode(self, student: Student, moment: Moment) -> None:
        """Keep BatchNorm's statistics: they belong to the outputs that are to come back."""
        student.eval()

    def judges(self, epoch: int) -> bool:
        """Judge seldom: an epoch of a few hundred images is short beside running the validation split."""
        return epoch % JUDGED == 0 or epoch == self.epochs


class LayerOutputs(Objective):
    """The mean over layers of the squared error of their outputs, each as a share of the outputs' variance.

    A layer's inputs are cut from what made them, so that its error moves its own weights only. One that is called
    several times is compared call by call.
    """

    def __init__(self, teacher: nn.Module) -> None:
        super().__init__()
        self._run = [teacher.eval().requires_grad_(False)]
        self._wanted: dict[str, list[Tensor]] = {}
        self._errors: list[Tensor] = []

    def watch(self, student: Student) -> None:
        """Hook the layers whose parameters learn and whose outputs are as wide as the teacher's."""
        learning = {name.rpartition(".")[0] for name in student.names}
        theirs = dict(self._run[0].named_modules())
        for name, module in student.body.named_modules():
            if name in learning and name in theirs and isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
                theirs[name].register_forward_hook(self._keep(name))
                module.register_forward_pre_hook(_cut, with_kwargs=True)
                module.register_forward_hook(self._compare(name))

    def loss(self, student: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean error; the labels are not looked at."""
        self._errors.clear()
        self._wanted.clear()
        with torch.no_grad():
            self._run[0](images)
        student(images)
        if not self._errors:
            return torch.zeros((), requires_grad=True)
        return torch.stack(self._errors).mean()

    def _keep(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            # as it is now: an activation may work on it in place
            self._wanted.setdefault(name, []).append(output.clone())

        return hook

    def _compare(self, name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if not (torch.is_grad_enabled() and self._wanted.get(name)):
                return
            wanted = self._wanted[name].pop(0)
            if wanted.shape == output.shape:
                self._errors.append((output - wanted).square().mean() / wanted.var().clamp_min(TINY))

        return hook


def _cut(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not torch.is_grad_enabled():
        return args, kwargs
    return changed(module, args, kwargs, lambda given: given.detach() if isinstance(given, Tensor) else given)
