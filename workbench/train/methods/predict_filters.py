"""A network that predicts which filters to drop; see ``workbench.techniques.trained.predict_filters``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from workbench.errors import WorkbenchError
from workbench.models.chains import find_normed
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques.draft import Draft
from workbench.techniques.trained import PredictFiltersSettings

from ..constraints.base import Part
from ..constraints.predictor import BehindGate, FilterGates, Predictor, Trials, choose
from ..loop.objectives import Objective
from ..method import Learning, Moment, cubic
from .taught import Taught

if TYPE_CHECKING:
    from ..student import Student


class Chosen(Part):
    """The weight of a chosen layer, before it is known what gates it stands behind."""

    def __init__(self, inner: Part) -> None:
        super().__init__()
        self.inner = inner

    def forward(self) -> Tensor:
        """Return the values."""
        return self.inner()

    def learned(self) -> dict[str, Tensor]:
        """Return what was learned."""
        return self.inner.learned()


class PredictFilters(Taught[PredictFiltersSettings]):
    """Trains the network with the model, then lets it decide."""

    def constrain(self, tensor: Learning) -> Part | None:
        """Return the tensor, marked where it is the weight of a chosen layer."""
        inner = super().constrain(tensor)
        main = tensor.settings is not None and tensor.values.ndim >= 2 and tensor.name.endswith(".weight")
        return Chosen(inner) if inner is not None and main else inner

    def prepare(self, student: Student, draft: Draft, subject: Subject, recipe: Recipe) -> None:
        """Give the student its network, and put what belongs to each filter behind its gate.

        Raises ``WorkbenchError`` where no layer has filters that may go.
        """
        parts = dict(student.parts())
        norms = {pair.layer: pair.norm for pair in find_normed(draft.build(), draft.stacked)}
        names = list(draft.layers)
        layers = [
            name
            for name in names[:-1]
            if isinstance(parts.get(f"{name}.weight"), Chosen) and _has_a_filter_for_each_output(draft, name)
        ]
        if not layers:
            raise WorkbenchError(
                "The step 'predict_filters' found no filters that may go: the last layer keeps its outputs, so choose "
                "others."
            )
        student.helpers["predictor"] = predictor = Predictor(self.settings.hidden, self.settings.seed)
        for name in layers:
            weight, norm = f"{name}.weight", norms.get(name)
            gamma = parts.get(f"{norm}.weight")
            axis = draft.output_axis(name)
            depth = names.index(name) / max(1, len(names) - 1)
            gates = FilterGates(parts[weight], gamma, predictor, depth, axis)
            student.helpers[_key(name)] = gates
            for tensor in (weight, f"{name}.bias", f"{norm}.weight", f"{norm}.bias"):
                if tensor in parts:
                    student.replace(tensor, BehindGate(parts[tensor], gates, axis if tensor == weight else 0))

    def objective(self, teacher: nn.Module) -> Objective:
        """Return the loss, beside which the network learns."""
        return Trials(super().objective(teacher))

    def before_step(self, student: Student, optimizer: Any, moment: Moment) -> None:
        """Let the network decide anew; more and more filters go, by a cubic schedule once it has learned a little."""
        last, gates = self._last(moment), gates_of(student)
        if moment.step > last:
            return
        begun = round(self.settings.wait * last)
        share = max(0, moment.step - begun) / max(1, last - begun)
        choose(gates, self.settings.ratio * cubic(share), self.settings.floor)
        for gate in gates.values():
            gate.final.fill_(moment.step == last)

    def paces(self) -> dict[str, float]:
        """Return how much faster the network learns."""
        return {"helpers": self.settings.pace}

    def finished(self, moment: Moment) -> bool:
        """Whether it has decided."""
        return moment.step > self._last(moment)

    def _last(self, moment: Moment) -> int:
        return moment.at(self.settings.search)


def gates_of(student: Student) -> dict[str, FilterGates]:
    """Return the gates of each layer's filters."""
    return {name: helper for name, helper in student.helpers.items() if isinstance(helper, FilterGates)}


def _has_a_filter_for_each_output(draft: Draft, layer: str) -> bool:
    """Whether every output has an entry of its own in the layer's weight; in a transposed convolution's groups not."""
    module = draft.module(layer)
    return not isinstance(module, _ConvNd) or module.weight.shape[draft.output_axis(layer)] == module.out_channels


def _key(layer: str) -> str:
    """Return a layer's name as a name without dots, which modules have."""
    return "gates " + layer.replace(".", " ")
