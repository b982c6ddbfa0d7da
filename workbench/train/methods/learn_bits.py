"""Mixed bits learned under a budget; see ``workbench.techniques.trained.learn_bits``."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.encodings import Encoding, encode_values
from workbench.encodings.archive import Archive
from workbench.errors import WorkbenchError
from workbench.models.edits import edit_to_json
from workbench.recipe import Recipe
from workbench.search.problem import Problem
from workbench.subject import Subject
from workbench.techniques.context import Cache
from workbench.techniques.draft import Draft
from workbench.techniques.quantize.formats import stored
from workbench.techniques.quantize.rows import Slicing
from workbench.techniques.quantize.settings import QuantizeSettings
from workbench.techniques.storage import Codes
from workbench.techniques.trained import LearnBitsSettings

from ..constraints.base import Constraint, Part
from ..constraints.gradients import rounded_to, slower, spread
from ..method import Learning, Moment
from .taught import Taught

if TYPE_CHECKING:
    from ..student import Student

#: Bytes by which a file's compressed header may grow when its layers have different bits.
MARGIN = 64
#: Share of the room that is left free where a choice has come not to fit.
RESERVE = 0.02
#: The width is open.
OPEN = -1


class ManyGrids(Part):
    """A weight on several grids at once, ``grids``, from few bits to many; later on one of them."""

    def __init__(self, inner: Constraint, grids: Sequence[Codes]) -> None:
        super().__init__()
        self.inner, self.grids = inner, tuple(grids)
        #: Logarithms of what steps are multiplied by: steps of 2 and of 8 bits are learned at one pace
        #: (Jain et al. 2020, "Trained Quantization Thresholds").
        self.stretch = nn.ParameterList(torch.zeros_like(grid.scale) for grid in grids)
        self.preference = nn.Parameter(torch.zeros(len(grids)))
        self.register_buffer("chosen", torch.tensor(OPEN))
        self.register_buffer("costs", torch.zeros(len(grids)))
        self.chosen: Tensor
        self.costs: Tensor

    def forward(self) -> Tensor:
        """Return the values on the chosen grid, or the mean over grids while the choice is open."""
        values = self.inner()
        if int(self.chosen) != OPEN:
            return self._on(int(self.chosen), values)
        parts = [share * self._on(place, values) for place, share in enumerate(self.shares())]
        return torch.stack(parts).sum(0)

    def shares(self) -> Tensor:
        """Return how far each grid is preferred; the sum is one."""
        return self.preference.softmax(0)

    def expected(self) -> Tensor:
        """Return the packed bytes to expect of the present preferences."""
        return (self.shares() * self.costs).sum()

    @torch.no_grad()
    def weigh(self) -> None:
        """Measure the packed bytes on each grid."""
        values = self.inner()
        self.costs.copy_(torch.tensor([packed_bytes(self._stored(place, values)) for place in range(len(self.grids))]))

    @torch.no_grad()
    def packed_bytes(self) -> int:
        """Return the packed bytes on the chosen grid."""
        return packed_bytes(self._stored(int(self.chosen), self.inner()))

    def learned(self) -> dict[str, Tensor]:
        """Return the codes on the chosen grid and what they mean, as ``put_learned`` takes them."""
        place = max(0, int(self.chosen))
        codes = self._stored(place, self.inner().detach())
        axis = OPEN if codes.axis is None else codes.axis
        about = torch.tensor([codes.bits, axis])
        found = {"codes": codes.codes, "scale": codes.scale, "zero_point": codes.zero_point, "grid": about}
        return {**self.inner.learned(), **found}

    def _stored(self, place: int, values: Tensor) -> Codes:
        return self.grids[place].retrained({"": values, "scale": self._step(place, 1.0).detach()})

    def _on(self, place: int, values: Tensor) -> Tensor:
        grid = self.grids[place]
        top = 2**grid.bits - 1
        each = grid.codes.numel() / max(1, grid.scale.numel())
        step = self._step(place, 1 / sqrt(max(1.0, each * top)))
        shape = tuple(grid.codes.shape)
        return rounded_to(
            values, spread(step, shape, grid.axis, None), spread(grid.zero_point, shape, grid.axis, None), top
        )

    def _step(self, place: int, share: float) -> Tensor:
        """Return the steps of a grid, with ``share`` of their gradient."""
        return self.grids[place].scale * slower(self.stretch[place], share).exp()


class LearnBits(Taught[LearnBitsSettings]):
    """Adds the bytes beyond the budget to the loss, and chooses."""

    _student: Student | None = None

    def constrain(self, tensor: Learning) -> Part | None:
        """Return the tensor on several grids, where it is a chosen weight that is stored as it is."""
        inner = super().constrain(tensor)
        if tensor.settings is None or tensor.storage is not None or not isinstance(inner, Constraint):
            return inner
        slicing, cache = Slicing(tensor.axis), Cache()
        grids = []
        for bits in range(tensor.settings.fewest, tensor.settings.most + 1):
            chosen = QuantizeSettings.model_validate({"bits": bits, "range": "mse"})
            storage, _ = stored(tensor.name, tensor.values, tensor.name, slicing, chosen, cache)
            assert isinstance(storage, Codes)
            grids.append(storage)
        return ManyGrids(inner, grids)

    def prepare(self, student: Student, draft: Draft, subject: Subject, recipe: Recipe) -> None:
        """Tell the student how many bytes are left for the weights whose bits are open.

        Raises ``WorkbenchError`` where no choice fits.
        """
        parts = grids_of(student)
        if not parts:
            raise WorkbenchError(
                "The step 'learn_bits' found no weights whose bits are open: take out the step that stores them."
            )
        budget = self.settings.max_bytes or int(self.settings.size * subject.dense_fp32_bytes)
        for part in parts.values():
            part.weigh()
        widest = sum(int(part.costs[-1]) for part in parts.values())
        room = budget - (_file_bytes(draft, parts, subject, recipe) - widest)
        least = sum(int(part.costs.min()) for part in parts.values())
        if least > room:
            raise WorkbenchError(
                f"A packed file of {budget:,} bytes can't be reached: with the fewest bits in every layer it takes "
                f"about {budget - room + least:,}. Allow more, or prune first."
            )
        student.register_buffer("room", torch.tensor(room))

    def set_mode(self, student: Student, moment: Moment) -> None:
        """Put the student into the mode in which it is trained, and know it: one that goes on has taken no step yet."""
        self._student = student
        super().set_mode(student, moment)

    def before_step(self, student: Student, optimizer: Any, moment: Moment) -> None:
        """Choose when it is time; later choose again where what was chosen has come not to fit."""
        self._student = student
        late = moment.step - self._last(moment)
        if late == 0 or (late > 0 and moment.step % max(1, moment.each // 2) == 0 and not self._fits()):
            self._choose(student, grids_of(student), RESERVE if late else 0.0)

    def penalty(self, student: Student, moment: Moment) -> Tensor | None:
        """Return the strength times the share of bytes beyond the budget, while the choice is open."""
        if moment.step >= self._last(moment):
            return None
        expected = torch.stack([part.expected() for part in grids_of(student).values()]).sum()
        return self.settings.strength * (expected / room_of(student) - 1).clamp_min(0)

    def paces(self) -> dict[str, float]:
        """Return how much faster preferences learn."""
        return {"preference": self.settings.pace}

    def finished(self, moment: Moment) -> bool:
        """Whether the bits are chosen and what they come to fits."""
        return moment.step > self._last(moment) and self._fits()

    def _last(self, moment: Moment) -> int:
        return moment.at(self.settings.search)

    def _fits(self) -> bool:
        student = self._student
        if student is None:
            return False
        return sum(part.packed_bytes() for part in grids_of(student).values()) <= room_of(student)

    def _choose(self, student: Student, parts: dict[str, ManyGrids], reserve: float) -> None:
        """Take the choice that most probably is enough, of those that fit: a width does for all fewer bits too.

        ``reserve`` is the share of the room that is left, since codes become less or more even in training.
        """
        for part in parts.values():
            part.weigh()
        enough = [part.shares().detach().double().cumsum(0).clamp(1e-12, 1) for part in parts.values()]
        problem = Problem(
            tuple(-chance.log().numpy() for chance in enough),
            tuple(part.costs.double().numpy() for part in parts.values()),
        )
        choice = problem.solve((1 - reserve) * room_of(student)) or tuple(int(np.argmin(cost)) for cost in problem.cost)
        for part, place in zip(parts.values(), choice, strict=True):
            part.chosen.fill_(place)


def grids_of(student: Student) -> dict[str, ManyGrids]:
    """Return the weights whose bits are learned, by name."""
    return {name: part for name, part in student.parts() if isinstance(part, ManyGrids)}


def room_of(student: Student) -> int:
    """Return the bytes that the weights whose bits are learned may take."""
    return int(student.get_buffer("room"))


def packed_bytes(codes: Codes) -> int:
    """Return the bytes that a weight takes in a file."""
    return codes.encode().entry.nbytes


def _file_bytes(draft: Draft, parts: dict[str, ManyGrids], subject: Subject, recipe: Recipe) -> int:
    """Return the size of the file of ``recipe`` with all open weights on their widest grid."""
    encoded: dict[str, Encoding] = {}
    for name, tensor in draft.tensors.items():
        if name in parts:
            encoded[name] = parts[name].grids[-1].encode()
        else:
            storage = draft.stored.get(name)
            encoded[name] = encode_values(tensor.numpy()) if storage is None else storage.encode()
    model = subject.model
    about = {"name": model.name, "origin": model.origin, "architecture": type(model.module).__name__}
    archive = Archive(encoded, about, recipe.to_data(), [edit_to_json(edit) for edit in draft.edits])
    return archive.nbytes + MARGIN
