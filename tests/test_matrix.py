"""Every technique's examples on every zoo model and awkward architecture: it applies or refuses, and tells the truth.

The default run takes a share in turn, so that each technique meets several models and each model several techniques;
``pytest -m slow`` takes the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import workbench as wb
from tests.gallery import CLASSES, CLASSIFIERS, SHAPE, UNUSUAL, build
from workbench.compressed import CompressedModel
from workbench.errors import WorkbenchError
from workbench.models.zoo import ARCHITECTURES
from workbench.techniques import TECHNIQUES, Cost

EXAMPLES = [
    (f"{technique.name}{number}", recipe)
    for technique in TECHNIQUES.values()
    for number, recipe in enumerate(technique.examples)
]
#: Of so many examples one runs by default: of those that need no data and of the others, on the gallery and the zoo.
LIVE_ON_GALLERY, CALIBRATED_ON_GALLERY, LIVE_ON_ZOO, CALIBRATED_ON_ZOO = 6, 12, 12, 48


def _cases(names: tuple[str, ...], live_share: int, calibrated_share: int) -> list[Any]:
    cases = []
    for row, name in enumerate(names):
        for column, (label, recipe) in enumerate(EXAMPLES):
            live = wb.Recipe.parse(recipe).cost == Cost.LIVE
            skipped = (row + column) % (live_share if live else calibrated_share)
            marks = [pytest.mark.slow] if skipped else []
            cases.append(pytest.param(name, recipe, id=f"{name}-{label}", marks=marks))
    return cases


def _tensors(output: Any) -> list[Tensor]:
    """Return the tensors of a module's output, whatever holds them."""
    if isinstance(output, Tensor):
        return [output]
    parts = output.values() if isinstance(output, dict) else output
    return [tensor for part in parts for tensor in _tensors(part)]


@pytest.fixture(scope="module")
def noise() -> wb.Dataset:
    generator = np.random.default_rng(0)
    images = generator.random((128, *SHAPE), np.float32)
    return wb.load_dataset((images, generator.permutation(128) % CLASSES))


@pytest.fixture(scope="module")
def fashion() -> wb.Dataset:
    """Return as few real images as a calibration takes."""
    test = wb.load_dataset("fashion_mnist")["test"]
    return wb.load_dataset((test.images[:640, 0], test.labels[:640]))


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize(("name", "recipe"), _cases((*CLASSIFIERS, *UNUSUAL), LIVE_ON_GALLERY, CALIBRATED_ON_GALLERY))
def test_on_the_gallery(name: str, recipe: str, noise: wb.Dataset, tmp_path: Path) -> None:
    module = build(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    try:
        compressed = wb.compress(module, recipe, noise)
    except WorkbenchError as refusal:
        said = str(refusal)
        assert said.endswith(".")
        assert "\n" not in said
        assert len(said) < 400
    else:
        _tells_the_truth(compressed, build(name), torch.randn(4, *SHAPE), tmp_path)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]), f"{key} of the person's module was changed"


@pytest.mark.parametrize(("name", "recipe"), _cases(tuple(ARCHITECTURES), LIVE_ON_ZOO, CALIBRATED_ON_ZOO))
def test_on_the_zoo(name: str, recipe: str, fashion: wb.Dataset, tmp_path: Path) -> None:
    """An example works on every model of the zoo."""
    _tells_the_truth(wb.compress(name, recipe, fashion), None, torch.randn(4, 1, 28, 28), tmp_path)


def _tells_the_truth(compressed: CompressedModel, architecture: nn.Module | None, images: Tensor, folder: Path) -> None:
    path = compressed.save(folder / "model.wbz")
    assert path.stat().st_size == compressed.nbytes
    assert sum(layer.bytes for layer in compressed.layers) <= compressed.nbytes
    again = wb.load_compressed(path, model=architecture)
    assert again.nbytes == compressed.nbytes
    with torch.inference_mode():
        outputs = _tensors(compressed.module(images))
        reloaded, fresh = _tensors(again.module(images)), _tensors(compressed.fresh_module()(images))
    assert outputs
    for ours, theirs, direct in zip(outputs, reloaded, fresh, strict=True):
        assert bool(torch.isfinite(ours).all())
        assert torch.equal(ours, theirs)
        assert torch.equal(ours, direct)
