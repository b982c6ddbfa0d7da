"""Mixed precision: products in 16 bits, sums and weights in 32 (Micikevicius et al. 2018).

``bf16`` has fp32's range. ``fp16`` has less, so the loss is scaled up before going back and the gradients down
again; a step whose gradients overflow is left out, and the scale halved. Whether any of it is quicker depends on
the processor, so it is measured before it is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """The arithmetic of a training: ``used`` is fp32, bf16 or fp16."""

    def __init__(self, used: str, device: str) -> None:
        self.used, self._device = used, device
        self._scaler = torch.amp.GradScaler(device, enabled=used == "fp16")

    @property
    def scale(self) -> float:
        """How many times too large gradients are until they are brought down."""
        return float(self._scaler.get_scale())

    def autocast(self) -> torch.autocast:
        """Return the context in which a loss is computed."""
        kept = DTYPES.get(self.used, torch.bfloat16)
        return torch.autocast(self._device, kept, enabled=self.used in DTYPES)

    def backward(self, loss: Tensor) -> None:
        """Add the loss's gradients, scaled up where they would vanish."""
        self._scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Bring the gradients down to their size, once a step."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Take the optimizer's step, unless a gradient overflowed."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """Return plain data for a checkpoint."""
        return {"used": self.used, "scaler": self._scaler.state_dict()}

    @classmethod
    def from_state(cls, state: dict[str, Any], device: str) -> Precision:
        """Return what ``state`` was taken of."""
        found = cls(state["used"], device)
        if state["scaler"]:
            found._scaler.load_state_dict(state["scaler"])
        return found
