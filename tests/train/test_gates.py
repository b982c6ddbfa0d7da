"""Which weights a mask keeps."""

from __future__ import annotations

import pytest
import torch

from workbench.train.constraints.base import Constraint
from workbench.train.constraints.gates import Gated, largest, top


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("values", [3, 40, 10**6])
def test_the_largest_are_those_that_a_stable_sort_puts_first(seed: int, values: int) -> None:
    chance = torch.Generator().manual_seed(seed)
    scores = torch.randint(values, (20, 15), generator=chance).float()
    scores[torch.rand(20, 15, generator=chance) < 0.3] = -torch.inf
    for count in (0, 1, 90, 250, 299, 300):
        wanted = torch.zeros(300, dtype=torch.bool)
        wanted[scores.flatten().argsort(descending=True, stable=True)[:count]] = True
        assert torch.equal(largest(scores, count), wanted.view(20, 15))


def test_what_is_gone_is_not_among_the_top() -> None:
    scores = torch.tensor([2.0, -torch.inf, 1.0, 2.0, -torch.inf])
    assert top(scores, 0.6).tolist() == [True, False, False, True, False]
    assert top(scores, 0.0).tolist() == [True, False, True, True, False]


def test_gradients_of_all_weights_add_up_over_the_parts_of_a_batch_and_are_brought_to_their_size() -> None:
    gate = Gated(Constraint(torch.ones(3)))
    gate.kept[1] = False
    gate.watch()
    for part in ([1.0, 2.0, 3.0], [4.0, 5.0, torch.inf]):
        (8 * gate() * torch.tensor(part)).sum().backward()
    found = gate.gradient(8.0)
    assert found is not None
    assert found.tolist() == [5, 7, 0]  # what overflowed counts for nothing
    gate().sum().backward()
    assert gate.gradient() is None  # nobody watches any more
