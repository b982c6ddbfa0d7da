"""Tensor parallelism: layers shared out as pruning's groups say, by real processes that give one process's answers."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.cli import main
from workbench.deploy.pipeline.run import PipelineRun, StageFigures
from workbench.deploy.pipeline.stages import PipelineError
from workbench.deploy.tensor_parallel.compare import ShareComparison, compare_shares
from workbench.deploy.tensor_parallel.parts import part_of
from workbench.deploy.tensor_parallel.plan import Share, SharePlan, plan_shares
from workbench.deploy.tensor_parallel.predict import Exchange, forecast_shares, slower_of
from workbench.models.channels import ChannelGroup
from workbench.models.edits import QuantizeInput, QuantizeInputByBatch, apply_edits
from workbench.models.zoo import ARCHITECTURES
from workbench.models.zoo.resnet import ResNet20


class Attending(nn.Module):
    """Four rows of 64 pixels attend to each other, then a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.first, self.second = nn.Linear(64, 301), nn.Linear(301, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1).unflatten(1, (-1, 64))
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.second(torch.relu(self.first(x.mean(1))))


def together(parts: list[nn.Module], images: Tensor, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """What the parts give when they add up among threads, which is much quicker than among processes."""
    terms: dict[int, Tensor] = {}
    step, place = threading.Barrier(len(parts), timeout=30), threading.local()

    def all_reduce(tensor: Tensor) -> None:
        terms[place.number] = tensor.clone()
        step.wait()
        total = sum(terms.values(), torch.zeros_like(tensor))
        step.wait()
        tensor.copy_(total)

    def run(number: int) -> Tensor:
        place.number = number
        with torch.inference_mode():
            return parts[number](images)

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    with ThreadPoolExecutor(len(parts)) as pool:
        return list(pool.map(run, range(len(parts))))


def shared(module: nn.Module, images: Tensor, processes: int) -> tuple[SharePlan, list[nn.Module]]:
    plan = plan_shares(module, images, processes)
    return plan, [part_of(module, plan, place, processes) for place in range(processes)]


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("module", [Attending(), ResNet20(width=8), ARCHITECTURES["mobilenetv2"]()])
def test_parts_add_up_to_the_whole(module: nn.Module, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(2, 1, 16, 16)
    with torch.inference_mode():
        whole = module.eval()(images)
    plan, parts = shared(module, images, processes)
    for answer in together(parts, images, monkeypatch):
        assert torch.allclose(answer, whole, atol=1e-5)
    held = [sum(parameter.numel() for parameter in part.parameters()) for part in parts]
    assert max(held) < sum(parameter.numel() for parameter in module.parameters())
    layers = [layer for share in plan.shares for layer in share.layers]
    assert len(layers) == len(set(layers))


def test_attention_is_shared_by_heads_and_the_bias_added_once() -> None:
    module, images = Attending().eval(), torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        module.attention.out_proj.bias.fill_(1.0)
    plan, parts = shared(module, images, 2)
    assert {share.summed for share in plan.shares} == {("attention",), ("second",)}
    assert [part.get_submodule("attention").num_heads for part in parts] == [2, 2]
    assert [part.get_submodule("first").out_features for part in parts] == [151, 150]
    assert [float(part.get_submodule("attention").out_proj.bias.detach().sum()) for part in parts] == [64, 0]


def test_rounded_inputs_are_shared_unless_the_grid_follows_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    module, images = Attending().eval(), torch.rand(3, 1, 16, 16)
    apply_edits(module, [QuantizeInput("second", 8, 0.01, 0)])
    with torch.inference_mode():
        whole = module(images)
    assert torch.allclose(together(shared(module, images, 2)[1], images, monkeypatch)[0], whole, atol=1e-5)
    apply_edits(module, [QuantizeInputByBatch("second", 8)])
    assert [share.summed for share in plan_shares(module, images, 2).shares] == [("attention",)]


def test_what_cannot_be_shared_is_told() -> None:
    with pytest.raises(PipelineError, match="run it as a pipeline"):
        plan_shares(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), torch.rand(2, 1, 8, 8), 2)
    with pytest.raises(PipelineError, match="2 processes or more"):
        compare_shares(Attending(), torch.rand(8, 1, 16, 16), 1)


def test_a_forecast_agrees_with_what_was_measured() -> None:
    plan = SharePlan((Share(ChannelGroup("a", 64, ()), ("b",), 8.0, 1.0),), 10.0)
    free = forecast_shares(plan, 8, Exchange(0.0, 0.0))
    assert [entry.processes for entry in free] == [2, 3, 4, 5, 6, 7, 8]
    assert free[0].speedup == pytest.approx(10 / 6)
    assert free[2].speedup == pytest.approx(10 / 4)
    exchange = Exchange(1.0, 0.25)
    slower = slower_of(plan, 2, exchange, 1.3)
    dear = forecast_shares(plan, 8, exchange, slower)
    assert dear[0].speedup == pytest.approx(1.3)
    assert exchange.of(4) == pytest.approx(0.25 * 3 + 0.75 * 1.5)
    assert all(entry.efficiency < other.efficiency for entry, other in zip(dear, free, strict=True))


def test_what_was_measured_is_what_is_foretold_of_as_many_processes() -> None:
    """Also where sums took longer than there was time for, as they seem to beside other work."""
    plan = SharePlan((Share(ChannelGroup("a", 64, ()), ("b",), 8.0, 1.0),), 10.0)
    logits = np.zeros((1, 3), np.float32)
    alone = PipelineRun((), 100.0, (100.0,), (StageFigures(1, 1),), logits)
    for throughput, sums_ms in ((150.0, 1.0), (150.0, 900.0), (190.0, 5.0), (20.0, 400.0)):
        stages = (StageFigures(1, 1, sums_ms + 1, 0.5), StageFigures(1, 1, sums_ms, 0.5))
        shared = PipelineRun((), throughput, (throughput,), stages, logits)
        found = ShareComparison(alone, shared, plan, 16, 16, 1, ())
        slower = slower_of(plan, 2, found.exchange, found.speedup)
        first, *more = forecast_shares(plan, 8, found.exchange, slower)
        assert first.speedup == pytest.approx(found.speedup)
        assert 0 <= found.waiting <= 1
        assert all(entry.efficiency <= first.efficiency for entry in more)


@pytest.mark.slow
def test_two_processes_give_one_processs_answers_and_hold_half(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--tensor", "--images", "32", "--microbatch", "4", "--microbatches", "4", "--json"]
    assert main(["pipeline", "--model", "lenet300", "--data", "fashion_mnist", *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["equal"]
    (whole,), halves = ([entry["weights"] for entry in report[way]["stages"]] for way in ("alone", "shared"))
    assert all(0.5 <= half / whole < 0.51 for half in halves)
    assert all(entry["sums_ms"] > 0 for entry in report["shared"]["stages"])
    assert report["forecast"][0]["speedup"] == pytest.approx(report["speedup"], rel=0.01)
    assert main(["pipeline", "--model", "lenet300", "--data", "fashion_mnist", *arguments[:-1]]) == 0
    assert "adding up the outputs of 1 layer, and waiting" in capsys.readouterr().out
