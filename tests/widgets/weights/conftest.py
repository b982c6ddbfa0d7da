"""A model of layers that are hard to draw, and what the weights view tells of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import workbench as wb
from widgets import WeightView

Wire = list[tuple[dict[str, Any], int]]


class Odd(nn.Module):
    """Layers that are hard to draw: constant, tiny, transposed, of one value, wide."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(16, 4, 2, stride=2)
        self.wide = nn.Linear(4, 600)
        self.constant = nn.Linear(600, 10)
        self.tiny = nn.Linear(10, 1)
        self.out = nn.Linear(1, 3)
        nn.init.constant_(self.constant.weight, 0.25)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(torch.relu(self.norm(self.first(x))))
        x = self.up(torch.relu(x)).mean((2, 3))
        found: torch.Tensor = self.out(self.tiny(self.constant(torch.relu(self.wide(x)))))
        return found


@pytest.fixture(scope="module")
def odd() -> Iterator[wb.Session]:
    torch.manual_seed(0)
    images, labels = torch.randn(64, 1, 8, 8), torch.arange(64) % 3
    with wb.Session(Odd(), wb.load_dataset((images, labels)), history=":memory:") as session:
        yield session


@pytest.fixture
def session(odd: wb.Session) -> wb.Session:
    odd.measure("[]")
    return odd


def counts(view: WeightView, name: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(getattr(view, name), np.uint32)


def drawn(view: WeightView, session: wb.Session, recipe: str) -> dict[str, Any]:
    """Return what is told of the selected layer once ``recipe`` is drawn."""
    session.measure(recipe)
    view._drawn = None  # the feed may be drawing this very moment; here it must be finished
    view.draw(session.snapshot)
    about: dict[str, Any] = view.about
    return about
