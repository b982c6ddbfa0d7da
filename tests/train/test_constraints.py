"""What runs in training is, to the bit, what is stored; gradients are those of the papers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.compression import context_for, draft_for
from workbench.data.dataset import Dataset
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques.codebook import SharedBuckets, SharedRuns, SharedValues
from workbench.techniques.draft import Draft
from workbench.techniques.storage import Codes
from workbench.techniques.trained import FinetuneSettings
from workbench.train.constraints.base import Masked, OnGrid, Shared
from workbench.train.constraints.reassigning import Reassigned
from workbench.train.method import Method
from workbench.train.student import Student

STORED = (
    "- quantize: {bits: 4}",
    "- quantize: {bits: 3, per: tensor, scheme: symmetric}",
    "- quantize: {bits: 4, per: group, group_size: 9}",
    "- quantize: {format: nf, bits: 4}",
    "- quantize: {format: apot, bits: 4}",
    "- quantize: {format: fp16}",
    "- share: {bits: 3}",
    "- prune: {ratio: 0.6}\n- quantize: {bits: 4}",
    "- prune: {ratio: 0.6}\n- share: {bits: 2}",
    "- prune: {granularity: filter, ratio: 0.5}\n- quantize: {bits: 5}",
    "- factorize: {size: 0.5}\n- quantize: {bits: 5}",
    "- quantize: {format: binary}",
    "- prune: {ratio: 0.4}\n- quantize: {format: binary, per: group, group_size: 7}",
    "- quantize: {format: ternary}",
    "- prune: {ratio: 0.4}\n- quantize: {format: ternary, per: group, group_size: 7}",
    "- quantize: {format: ternary, per: tensor}",
)


def student_of(draft: Draft, **more: Any) -> Student:
    settings = FinetuneSettings(**more)
    return Student.of(draft, Method(settings), dict.fromkeys(draft.layers, settings))


def moved(student: Student, seed: int = 0) -> None:
    """Change everything that learns a little."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=chance)
                parameter.add_(0.05 * parameter.abs().mean() * noise)


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("text", STORED)
def test_the_model_runs_with_the_values_that_will_be_stored(
    text: str, more: bool, small_model: Model, small_data: Dataset
) -> None:
    subject = Subject.of(small_model, (1, 8, 8))
    draft = draft_for(subject, Recipe.parse(text), context_for(small_model, small_data))
    student = student_of(draft, learn_offsets=more, two_scales=more)
    for name, values in student.values().items():  # before it has learned anything
        torch.testing.assert_close(values.detach(), draft.tensors[name], rtol=1e-6, atol=1e-7)
    moved(student)
    learned: dict[str, dict[str, Tensor]] = {}
    for entry, tensor in student.learned().items():
        name, _, part = entry.partition("|")
        learned.setdefault(name, {})[part] = tensor
    for name, values in student.values().items():
        storage = draft.stored.get(name)
        stored = learned[name][""] if storage is None else storage.retrained(learned[name])
        decoded = stored if isinstance(stored, Tensor) else stored.decode()  # type: ignore[union-attr]
        torch.testing.assert_close(values.detach(), decoded, rtol=1e-6, atol=1e-7)


def test_pruned_weights_stay_zero_and_get_no_gradient() -> None:
    kept = torch.tensor([True, False, True])
    part = Masked(torch.tensor([1.0, 0.0, -2.0]), kept)
    (part() ** 2).sum().backward()
    assert part.values.grad is not None
    assert part.values.grad.tolist() == [2.0, 0.0, -4.0]


def test_a_step_learns_by_the_gradient_of_learned_step_size_quantization() -> None:
    """Esser et al. 2020, equation 3, and the scale of section 2.2: v in steps is -Qn, Qp or round(v) - v."""
    step, bits = 0.1, 3
    values = torch.tensor([[0.26, -0.93, 0.049, 0.71]])
    codes = Codes(torch.zeros(1, 4, dtype=torch.uint8), torch.tensor([step]), torch.tensor([4]), None, bits)
    part = OnGrid(codes, torch.ones(1, 4, dtype=torch.bool), learn_steps=True)
    with torch.no_grad():
        part.values.copy_(values)
    part().sum().backward()
    place = values / step
    inside = (place > -4) & (place < 3)
    expected = torch.where(inside, place.round() - place, place.clamp(-4, 3)).sum() / math.sqrt(4 * 7)
    assert part.step.grad is not None
    torch.testing.assert_close(part.step.grad, expected.view(1), rtol=1e-5, atol=1e-6)
    assert part.values.grad is not None
    assert part.values.grad.tolist() == inside.float().tolist()


def test_an_offset_learns_by_the_gradient_of_lsq_plus() -> None:
    """Bhalgat et al. 2020, equations 4 and 5: beyond the ends 1 for the offset and the end's code for the step."""
    step, values = 0.1, torch.tensor([[0.26, -0.93, 0.049, 0.71, -0.12]])
    codes = Codes(torch.zeros(1, 5, dtype=torch.uint8), torch.tensor([step]), torch.tensor([2.0]), None, 3)
    part = OnGrid(codes, torch.ones(1, 5, dtype=torch.bool), learn_steps=True, learn_offsets=True)
    with torch.no_grad():
        part.values.copy_(values)
    part().sum().backward()
    place = values / step + 2  # (x - offset) / step
    inside = (place > 0) & (place < 7)
    slowed = 1 / math.sqrt(5 * 7)
    assert part.offset is not None
    assert part.offset.grad is not None
    torch.testing.assert_close(part.offset.grad, (~inside).float().sum().view(1) * slowed)
    of_step = torch.where(inside, place.round() - place, place.clamp(0, 7)).sum() * slowed
    assert part.step.grad is not None
    torch.testing.assert_close(part.step.grad, of_step.view(1), rtol=1e-4, atol=1e-5)


def test_an_offset_finds_a_lopsided_range_and_zero_stays_on_the_grid() -> None:
    """Values of 0 to 0.75 on a symmetric grid of 3 bits: half of it is lost until its offset has learned."""
    values = torch.linspace(0, 0.75, 64).view(1, 64)
    codes = Codes(torch.zeros(1, 64, dtype=torch.uint8), torch.tensor([0.12]), torch.tensor([4.0]), None, 3)
    part = OnGrid(codes, torch.ones(1, 64, dtype=torch.bool), learn_steps=True, learn_offsets=True)
    with torch.no_grad():
        part.values.copy_(values)
    before = float((part() - values).detach().square().mean())
    assert part.offset is not None
    optimizer = torch.optim.Adam([part.step, part.offset], 0.01)
    for _ in range(200):
        optimizer.zero_grad()
        (part() - values).square().mean().backward()
        optimizer.step()
    stored = codes.retrained(part.learned())
    after = float((stored.decode() - values).square().mean())
    assert after < 0.1 * before
    assert stored.zero_point.item() in range(3)
    assert torch.equal(stored.decode(), part().detach())


def test_a_shared_entry_learns_by_the_sum_of_its_weights_gradients() -> None:
    codes = torch.tensor([[0, 1, 1], [2, 0, 1]], dtype=torch.uint8)  # 2 is a pruned weight
    part = Shared(SharedValues(codes, torch.tensor([[0.5, -1.0]])))
    gradient = torch.tensor([[1.0, 2.0, 3.0], [100.0, 5.0, 6.0]])
    (part() * gradient).sum().backward()
    assert part.books.grad is not None
    assert part.books.grad.tolist() == [[6.0, 11.0]]


def test_a_reassigned_weight_takes_the_entry_nearest_to_it_and_both_learn() -> None:
    codes = torch.tensor([[0, 1, 1], [2, 0, 1]], dtype=torch.uint8)  # 2 is a pruned weight
    shared = SharedValues(codes, torch.tensor([[0.5, -1.0]]))
    part = Reassigned(shared, torch.tensor([[0.4, -0.3, -0.9], [0.0, 0.6, -0.2]]))
    held = torch.tensor([[0.5, -1.0, -1.0], [0.0, 0.5, 0.5]])
    assert torch.equal(part().detach(), held)  # -0.2 is nearer to 0.5 than to -1
    gradient = torch.tensor([[1.0, 2.0, 3.0], [100.0, 5.0, 6.0]])
    (part() * gradient).sum().backward()
    assert part.books.grad is not None
    assert part.values.grad is not None
    assert part.books.grad.tolist() == [[12.0, 5.0]]
    assert torch.equal(part.values.grad, gradient * (codes != 2))
    assert torch.equal(shared.retrained(part.learned()).decode(), held)


@pytest.mark.parametrize(("axis", "per"), [(0, 3), (1, 2)])
def test_reassigned_weights_stay_with_the_book_of_their_channels(axis: int, per: int) -> None:
    chance = torch.Generator().manual_seed(3)
    values = torch.randn(5, 4, 3, generator=chance)
    books = torch.randn(2, 6, generator=chance)
    storage = SharedValues(torch.zeros(5, 4, 3, dtype=torch.uint8), books, axis, per)
    part = Reassigned(storage, values)
    for index in range(values.shape[axis]):
        book = books[index // per]
        wanted = book[(values.select(axis, index).unsqueeze(-1) - book).abs().argmin(-1)]
        assert torch.equal(part().detach().select(axis, index), wanted)
    assert torch.equal(storage.retrained(part.learned()).decode(), part().detach())


@pytest.mark.parametrize("half", [False, True])
def test_buckets_and_runs_learn_by_the_sum_of_their_weights_gradients(half: bool) -> None:
    codes = torch.tensor([[0, 1], [2, 0]], dtype=torch.uint8)  # 2 is a run that is zero
    runs = SharedRuns(codes, torch.tensor([[0.5, -1.0], [0.25, 2.0]]), (2, 3), 0, half)
    buckets = SharedBuckets(torch.tensor([1.0, 2.0, 4.0]), (4, 5), 7, torch.arange(20).view(4, 5) % 3 > 0, half)
    for storage in (runs, buckets):
        part = Shared(storage)
        assert torch.equal(part().detach(), storage.decode())
        gradient = torch.arange(1.0, 1 + part.index.numel()).view(part.index.shape)
        (part() * gradient).sum().backward()
        expected = torch.zeros(storage.books.numel() + 1).index_add_(0, part.index.flatten(), gradient.flatten())
        assert part.books.grad is not None
        assert torch.equal(part.books.grad.flatten(), expected[:-1])
        again = storage.retrained({"books": torch.full_like(storage.books, 1 / 3)})
        value = torch.tensor(1 / 3)
        assert set(again.decode().unique().tolist()) == {0.0, float(value.half() if half else value)}
