"""Tensors that wait until they are asked for: nobody sees a difference, and a size asks for none."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workbench.compression import compress_subject, context_for
from workbench.late import Late, Tensors, held, size_of
from workbench.models.factors import Factorize, WithProducts
from workbench.models.load import load_model
from workbench.recipe import Recipe
from workbench.subject import Subject


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def late(asked: list[str]) -> Late:
    def compute() -> Tensor:
        asked.append("asked")
        return torch.ones(2, 3)

    return Late((2, 3), compute)


def test_it_is_worked_out_once_wherever_it_is_held(late: Late, asked: list[str]) -> None:
    first, second = Tensors({"present": torch.zeros(4)}), Tensors()
    first.hold("weight", late)
    second.hold("other", first.held("weight"))
    assert (list(first), len(first), "weight" in first) == (["present", "weight"], 2, True)
    assert tuple(held(first, "weight").shape) == (2, 3)
    assert held(first, "weight").dtype is torch.float32
    assert size_of(first, "weight") == 6
    assert not asked
    assert first["weight"] is second["other"]
    assert dict(first.items())["weight"].sum() == 6
    assert asked == ["asked"]


def test_a_copy_holds_the_same_and_changes_alone(late: Late, asked: list[str]) -> None:
    first = Tensors()
    first.hold("weight", late)
    copy = Tensors(first)
    copy["weight"] = torch.zeros(1)
    del first["weight"]
    assert "weight" not in first
    assert size_of(copy, "weight") == 1
    assert not asked


def test_beside_products_nothing_is_worked_out_either(late: Late, asked: list[str]) -> None:
    first = Tensors({"layer.0.weight": torch.ones(1, 2), "layer.1.weight": torch.ones(3, 1)})
    first.hold("weight", late)
    products = WithProducts(first)
    products.add(Factorize("layer", "svd", (1,)))
    assert tuple(held(products, "layer.weight").shape) == (3, 2)
    assert tuple(held(products, "weight").shape) == (2, 3)
    assert not asked


@pytest.mark.parametrize("steps", [[{"prune": {"ratio": 0.6}}, {"quantize": {"bits": 4}}], [{"quantize": {"bits": 8}}]])
def test_neither_a_size_nor_the_layers_figures_ask_for_values(steps: list[dict[str, dict[str, float]]]) -> None:
    subject = Subject.of(load_model("lenet5"), (1, 28, 28))
    compressed = compress_subject(subject, Recipe.parse(steps), context_for(subject.model, None))
    assert compressed.nbytes
    found = {layer.name: layer.sparsity for layer in compressed.layers}
    ones = {name: compressed.tensors.held(name) for name in compressed.tensors}
    waiting = [name for name, one in ones.items() if isinstance(one, Late) and one._value is None]
    assert {f"{layer}.weight" for layer in found} == set(waiting)
    for layer, sparsity in found.items():
        assert float((compressed.tensors[f"{layer}.weight"] == 0).float().mean()) == pytest.approx(sparsity)
    for name, array in compressed.archive.decode().items():
        torch.testing.assert_close(compressed.tensors[name], torch.from_numpy(array), rtol=0, atol=0)
