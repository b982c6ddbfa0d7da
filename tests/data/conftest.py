"""Small data to load: two classes that differ, as arrays and as files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Pair = tuple[Pixels, NDArray[np.int64]]


@pytest.fixture
def make_pair() -> Callable[..., Pair]:
    """Return a maker of ``count`` random images and labels that go round the classes."""

    def make(count: int = 60, shape: tuple[int, ...] = (1, 8, 8), classes: int = 3, seed: int = 0) -> Pair:
        pixels = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
        return pixels, np.arange(count) % classes

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """Return a maker of PNG files: ``{"cat": 5}`` or ``{"train/cat": 5}``, the pixels drawn from a seed."""

    def make(counts: dict[str, int], size: tuple[int, int] = (8, 6), mode: str = "RGB", name: str = "pets") -> Path:
        generator = np.random.default_rng(len(counts))
        for folder, count in counts.items():
            (tmp_path / name / folder).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
                Image.fromarray(pixels).convert(mode).save(tmp_path / name / folder / f"{number:03}.png")
        return tmp_path / name

    return make
