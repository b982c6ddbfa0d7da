"""One training step: in as many parts, in as few bits and with as little memory as the settings ask for.

What is to make a step quicker or smaller is measured on the first batch before it is used, and told in a
sentence: 16-bit arithmetic that is slower on this machine stays out of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from workbench.counting import counted
from workbench.techniques.trained import TrainingSettings

from ..method import Method, Moment
from ..student import Student
from .gradient_checkpointing import blocks_of, checkpoint_blocks
from .measuring import peak_bytes, seconds_of
from .objectives import Objective
from .precision import DTYPES, Precision

#: Places, normalised images and labels, as ``TrainingImages.batches`` gives them.
Batch = tuple[Tensor, Tensor, Tensor]
#: Images of a first measurement, and how many times slower ends it there: where a processor has no kernels for a
#: type, a whole batch can take minutes.
FEW, HOPELESS = 2, 4.0


class Stepper:
    """Takes steps of ``optimizer`` for ``student`` by ``method`` and ``objective``; ``notes`` say what was found."""

    def __init__(
        self, student: Student, method: Method[Any], objective: Objective, optimizer: torch.optim.Optimizer
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self._student, self._method, self._objective, self._optimizer = student, method, objective, optimizer
        self._settings: TrainingSettings = method.settings
        self._device = next((tensor.device.type for tensor in student.parameters()), "cpu")
        self._precision = Precision("fp32", self._device)

    def prepare(self, batch: Batch, moment: Moment, check: Callable[[], None]) -> None:
        """Measure on one batch what the settings ask for; nothing of the student is changed."""
        before = [{name: held.clone() for name, held in part.state_dict().items()} for part in self._parts()]
        self._method.set_mode(self._student, moment)
        if self._settings.precision in DTYPES:
            self.notes += (self._choose(batch, check),)
        if self._settings.gradient_checkpointing:
            self.notes += (self._checkpoint(batch, check),)
        for part, state in zip(self._parts(), before, strict=True):
            part.load_state_dict(state)
        self._optimizer.zero_grad(set_to_none=True)

    def take(self, batch: Batch, moment: Moment) -> float:
        """Take one step; return the loss that it was taken on."""
        method, student, optimizer = self._method, self._student, self._optimizer
        torch.manual_seed(self._settings.seed * 1_000_003 + moment.step)  # dropout's chance
        if method.freezes(moment):
            method.set_mode(student, moment)
        method.before_step(student, optimizer, moment)
        for group in optimizer.param_groups:
            group["lr"] = self._settings.learning_rate * group["pace"] * method.pace(moment)
        optimizer.zero_grad(set_to_none=True)
        total = self._gradients(batch, self._precision, moment)
        self._precision.unscale(optimizer)
        student.loss_scale = self._precision.scale
        method.after_backward(student, optimizer, moment)
        self._clip()
        self._precision.step(optimizer)
        return total

    def _clip(self) -> None:
        """Shorten a gradient that is longer than the settings allow (Pascanu, Mikolov and Bengio 2013)."""
        longest = self._settings.gradient_clip
        if longest is not None:
            learning = [tensor for group in self._optimizer.param_groups for tensor in group["params"]]
            nn.utils.clip_grad_norm_(learning, longest)

    def state(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {"precision": self._precision.state(), "notes": list(self.notes)}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on as what ``state`` was taken of."""
        self._precision = Precision.from_state(state["precision"], self._device)
        self.notes = tuple(state["notes"])
        if self._settings.gradient_checkpointing:
            checkpoint_blocks(self._student.body)

    def _parts(self) -> tuple[Student, Objective]:
        return self._student, self._objective

    def _gradients(self, batch: Batch, precision: Precision, moment: Moment | None = None) -> float:
        """Add up the gradients of one batch, part by part; return its loss."""
        count, total = len(batch[0]), 0.0
        parts = list(zip(*(values.chunk(self._settings.accumulate) for values in batch), strict=True))
        for place, (places, some, wanted) in enumerate(parts):
            self._objective.at(places)
            with precision.autocast():
                loss = self._objective.loss(self._student, some, wanted)
                loss = loss if len(parts) == 1 else loss * (len(wanted) / count)
                penalty = None
                if moment is not None and place == len(parts) - 1:
                    penalty = self._method.penalty(self._student, moment)
                loss = loss if penalty is None else loss + penalty
            precision.backward(loss)
            total += float(loss.detach())
        return total

    def _choose(self, batch: Batch, check: Callable[[], None]) -> str:
        """Use the asked for arithmetic where a step takes less time in it; return what was found."""
        wanted = self._settings.precision

        def ways(count: int) -> dict[str, Callable[[], None]]:
            some = batch[0][:count], batch[1][:count], batch[2][:count]
            return {name: self._pass(some, Precision(name, self._device)) for name in ("fp32", str(wanted))}

        ways(FEW)["fp32"]()
        seconds = seconds_of(ways(FEW), check, rounds=1, warm=0)
        if seconds[wanted] < HOPELESS * seconds["fp32"]:
            seconds = seconds_of(ways(len(batch[0])), check)
        times = seconds[wanted] / seconds["fp32"]
        if times >= 1:
            return f"A step in {wanted} takes {times:.1f} times as long as in fp32 here, so training stays in fp32."
        self._precision = Precision(wanted, self._device)
        return f"A step in {wanted} takes {times:.0%} of the time that it takes in fp32 here, so {wanted} is used."

    def _checkpoint(self, batch: Batch, check: Callable[[], None]) -> str:
        """Checkpoint the student's blocks; return what that saves and what it costs."""
        body = self._student.body
        count = len(blocks_of(body))
        if not count:
            return "The model has no blocks, so gradient checkpointing changes nothing here."
        run = self._pass(batch, self._precision)
        without = peak_bytes(run)
        undo = checkpoint_blocks(body)
        within = peak_bytes(run)

        def plain() -> None:
            undo()
            run()

        def again() -> None:
            nonlocal undo
            undo = checkpoint_blocks(body)
            run()

        seconds = seconds_of({"plain": plain, "again": again}, check)
        return (
            f"Gradient checkpointing of {counted(count, 'block')}: a step's tensors take {within / 1e6:.1f} MB at most "
            f"instead of {without / 1e6:.1f} MB, and a step {seconds['again'] / seconds['plain']:.2f} times as long."
        )

    def _pass(self, batch: Batch, precision: Precision) -> Callable[[], None]:
        """Return what computes one batch's gradients, to be measured."""

        def run() -> None:
            self._optimizer.zero_grad(set_to_none=True)
            torch.manual_seed(self._settings.seed)
            self._gradients(batch, precision)

        return run
