"""A little model and data for tests of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from workbench.data.dataset import Dataset, Normalization, Split
from workbench.models.load import load_model
from workbench.models.model import Model


class Small(nn.Module):
    """A convolution, BatchNorm, dropout and a Linear, on images ``(1, 8, 8)`` of three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(8 * 16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        logits: Tensor = self.fc(self.drop(x).flatten(1))
        return logits


@pytest.fixture(scope="session")
def small_data() -> Dataset:
    """Three classes, each a bright patch in a place of its own under noise."""

    def split(name: str, count: int, seed: int) -> Split:
        chance = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % 3
        images = 0.5 * torch.randn(count, 1, 8, 8, generator=chance)
        for place, label in enumerate(labels):
            images[place, 0, 2 * int(label) : 2 * int(label) + 3, 2:6] += 1
        return Split(name, images, labels)

    splits = {name: split(name, count, seed) for seed, (name, count) in enumerate(
        {"train": 480, "calibration": 60, "validation": 150, "test": 150}.items())}  # fmt: skip
    return Dataset("patches", splits, ("top", "middle", "bottom"), Normalization((0.0,), (1.0,)))


@pytest.fixture
def small_model() -> Model:
    """An untrained model, the same every time."""
    torch.manual_seed(1)
    return load_model(Small().eval())


@pytest.fixture(autouse=True)
def _own_artefacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that another test has trained."""
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As many threads as a worker has, so that training here comes to the same numbers."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
