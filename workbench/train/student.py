"""The model that is trained: a compressed one whose tensors learn under their constraints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from workbench.models.tensors import tensors_of

from .constraints.base import Part
from .constraints.folding import Folding, fold
from .constraints.inputs import LearnedInput, learn_inputs
from .method import Learning, Method

if TYPE_CHECKING:
    from workbench.techniques.draft import Draft
    from workbench.techniques.trained import TrainingSettings


class Student(nn.Module):
    """Runs ``body`` with its parameters replaced by what their constraints give.

    Buffers, such as BatchNorm's running statistics, are the body's own and follow in training mode.
    """

    #: How many times too large gradients are that the optimizer does not know of, in 16-bit arithmetic.
    loss_scale = 1.0

    def __init__(
        self,
        body: nn.Module,
        constraints: dict[str, Part],
        image_shape: tuple[int, ...] = (),
        inputs: Mapping[str, LearnedInput] | None = None,
        folding: Folding | None = None,
    ) -> None:
        super().__init__()
        self.folding = folding
        self.image_shape = image_shape
        self.layers = tuple(inputs or ())
        self.inputs = nn.ModuleList((inputs or {}).values())
        self.body = body.requires_grad_(False)
        #: What a method trains beside the tensors; it says how.
        self.helpers = nn.ModuleDict()
        self.names = tuple(constraints)
        self.constraints = nn.ModuleList(constraints.values())

    @classmethod
    def of(cls, draft: Draft, method: Method[Any], layers: Mapping[str, TrainingSettings]) -> Student:
        """Return the student for the model as ``draft`` has it; tensors whose storage can't learn stay.

        ``layers``: the layers that the step acts on, each with its settings.
        """
        body = draft.build()
        parameters = {name for name, tensor in body.named_parameters() if tensor.is_floating_point()}
        owners = {weight: name for name in layers for weight in draft.layers[name].weights}
        found = {}
        for name, values in draft.tensors.items():
            if name in parameters:
                stored, zeroed, whole = draft.stored.get(name), draft.zeroed.get(name), draft.unrounded.get(name)
                owner = owners.get(name)
                axis = 0 if owner is None else draft.output_axis(owner)
                chosen = None if owner is None else layers[owner]
                learning = Learning(name, values.float(), stored, zeroed, chosen, whole, axis)
                constraint = method.constrain(learning)
                if constraint is not None:
                    found[name] = constraint
        how = getattr(method.settings, "learn_inputs", "no")
        offsets = getattr(method.settings, "learn_offsets", False)
        inputs = {} if how == "no" else learn_inputs(body, draft.edits, how, offsets)
        folds = getattr(method.settings, "batchnorm", "train") == "fold"
        return cls(body, found, draft.image_shape, inputs, fold(body, found, draft) if folds else None)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits ``(N, classes)`` of normalised ``images``."""
        logits: Tensor = functional_call(self.body, self.values(), (images,))
        return logits

    def values(self) -> dict[str, Tensor]:
        """Return the tensors the body runs with, by name."""
        return {name: part() for name, part in self.parts()}

    @torch.no_grad()
    def learned(self) -> dict[str, Tensor]:
        """Return an artefact's tensors: ``NAME`` or ``NAME|PART``, floating-point buffers, inputs' grids."""
        found = {}
        for name, part in self.parts():
            for key, tensor in part.learned().items():
                found[f"{name}|{key}" if key else name] = tensor
        for layer, grid in zip(self.layers, self.inputs, strict=True):
            assert isinstance(grid, LearnedInput)
            found |= {f"{layer}|{key}": value for key, value in grid.learned().items()}
        kept = {name for name, _ in self.body.named_parameters()}
        for name, tensor in tensors_of(self.body).items():
            if name not in kept and tensor.is_floating_point():
                found[name] = tensor.clone()
        if self.folding is not None:
            self.folding.settle(found)
        return found

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Yield each tensor that learns, by its name."""
        for name, part in zip(self.names, self.constraints, strict=True):
            assert isinstance(part, Part)
            yield name, part

    def replace(self, name: str, part: Part) -> None:
        """Let another part give the tensor ``name`` from now on."""
        self.constraints[self.names.index(name)] = part

    def restart(self, seed: int) -> None:
        """Forget everything: initialize anew what has no storage of its own, and BatchNorm's statistics.

        Parameters of a module that does not say how it begins (a position's embedding) are dealt out anew by chance.
        """
        from .constraints.gates import free_values

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            for module in self.body.modules():
                # attention's has an underscore
                reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
                if callable(reset):
                    reset()
                else:
                    _shuffle(module)
        fresh = dict(self.body.named_parameters())
        with torch.no_grad():
            for name, part in self.parts():
                values = free_values(part)
                if values is not None and fresh[name].shape == values.shape:
                    values.copy_(fresh[name])

    def groups(self, weight_decay: float, paces: Mapping[str, float]) -> list[dict[str, Any]]:
        """Return the optimizer's parameters: weights decay; biases, scales and codebooks do not.

        ``paces``: how much faster than the others parameters learn, by the last part of their name.
        """
        decayed: list[Tensor] = []
        free: list[Tensor] = []
        own: dict[str, list[Tensor]] = {name: [] for name in paces}
        for _, part in self.parts():
            for path, parameter in part.named_parameters():
                name = path.rpartition(".")[2]
                if parameter.requires_grad:
                    plain = decayed if name == "values" and parameter.ndim > 1 else free
                    own.get(name, plain).append(parameter)
        free += self.inputs.parameters()
        own.get("helpers", free).extend(self.helpers.parameters())
        found: list[dict[str, Any]] = [{"params": decayed, "weight_decay": weight_decay}, {"params": free}]
        return [*found, *({"params": own[name], "pace": paces[name]} for name in paces)]


@torch.no_grad()
def _shuffle(module: nn.Module) -> None:
    """Give each value of a module's own parameters another's place."""
    for parameter in module.parameters(recurse=False):
        order = torch.randperm(parameter.numel())
        parameter.copy_(parameter.flatten()[order].view_as(parameter))
