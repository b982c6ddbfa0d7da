"""Pipelines: stages balanced exactly, and real processes that give one process's answers."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from workbench.deploy.pipeline.compare import compare_pipeline
from workbench.deploy.pipeline.predict import forecast, overhead_of
from workbench.deploy.pipeline.run import run_pipeline
from workbench.deploy.pipeline.stages import Block, PipelineError, balance, measure_blocks, stage_times


class Branching(nn.Module):
    """Goes another way for some values: it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x) if x.sum() > 0 else self.second(-x)


class Residual(nn.Module):
    """Two blocks with shortcuts between a stem and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 8)
        self.blocks = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        for block in self.blocks:
            x = x + torch.relu(block(x))
        return self.head(x)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=8), st.integers(1, 5))
def test_stages_are_balanced_as_well_as_can_be(times: list[float], stages: int) -> None:
    blocks = [Block(f"b{place}", ms) for place, ms in enumerate(times)]
    if stages > len(blocks):
        with pytest.raises(PipelineError, match="cannot be cut"):
            balance(blocks, stages)
        return
    cuts = balance(blocks, stages)
    assert len(cuts) == stages - 1
    best = min(
        max(stage_times(blocks, [blocks[place].name for place in places]))
        for places in combinations(range(1, len(blocks)), stages - 1)
    )
    assert max(stage_times(blocks, cuts)) == pytest.approx(best)


def test_blocks_are_those_that_run_once_in_the_order_they_run() -> None:
    blocks = measure_blocks(Residual(), torch.rand(4, 8))
    assert [block.name for block in blocks] == ["stem", "blocks.0", "blocks.1", "head"]
    assert all(block.ms > 0 for block in blocks)


def test_two_processes_give_one_processs_answers() -> None:
    module, images = Residual().eval(), torch.rand(16, 8)
    two = run_pipeline(module, images, ["blocks.1"], microbatch=2, microbatches=4, rounds=1)
    with torch.inference_mode():
        assert torch.allclose(torch.from_numpy(two.logits), module(images), atol=1e-6)
    whole = sum(tensor.nbytes for tensor in module.state_dict().values())
    assert sum(stage.weights for stage in two.stages) == whole
    assert all(0 < stage.weights < whole for stage in two.stages)


@pytest.mark.slow
def test_a_comparison_tells_what_bounds_it() -> None:
    found = compare_pipeline(Residual().eval(), torch.rand(16, 8), 2, microbatch=2, microbatches=4, rounds=1)
    assert found.equal
    assert "handing it over weighs" in found.reason  # such small layers gain nothing
    assert found.forecast[0].speedup == pytest.approx(found.speedup, rel=0.01)


@pytest.mark.slow
def test_a_model_that_cannot_be_traced_says_so() -> None:
    with pytest.raises(PipelineError, match=r"Process [12] of 2 failed: "):
        run_pipeline(Branching().eval(), torch.rand(8, 4), ["second"], microbatch=2, microbatches=4, rounds=1)


def test_what_does_not_fit_is_told() -> None:
    with pytest.raises(PipelineError, match="multiple of 8 images"):
        run_pipeline(Residual(), torch.rand(12, 8), microbatch=2, microbatches=4)
    with pytest.raises(PipelineError, match="1001 processes need 1001 cores"):
        run_pipeline(Residual(), torch.rand(8, 8), [f"b{place}" for place in range(1000)], microbatch=2, microbatches=4)


def test_a_forecast_agrees_with_what_was_measured() -> None:
    blocks = [Block(f"b{place}", 2.0) for place in range(8)]
    ideal = forecast(blocks, 4, 8)
    assert [entry.stages for entry in ideal] == [2, 3, 4]
    assert ideal[0].speedup == pytest.approx(2 * 8 / 9)
    overhead = overhead_of(blocks, ideal[0].cuts, 8, 1.5)
    assert forecast(blocks, 2, 8, overhead)[0].speedup == pytest.approx(1.5)
