"""An allocation keeps its budget, beats greedy and uniform where that can be, and says what cannot be met."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import pytest
import torch

import workbench as wb
from workbench.cli import main
from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.search.allocation import Allocation
from workbench.search.budget import Budget, Kind
from workbench.search.front import FrontJob
from workbench.search.job import AllocationJob
from workbench.search.methods import METHODS
from workbench.search.options import plan_for
from workbench.session import Session


def small() -> Dataset:
    """Return Fashion-MNIST with a few images of each split."""
    data = wb.load_dataset("fashion_mnist")
    few = {"validation": 500, "test": 500, "calibration": 256, "train": 256}
    splits = {name: data[name].take(torch.arange(count)) for name, count in few.items()}
    return replace(data, splits=splits)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session("lenet300", small(), history=":memory:") as opened:
        opened.measure()
        yield opened


@pytest.fixture(scope="module")
def found(session: Session) -> Allocation:
    return AllocationJob(session, Budget("bytes", 60_000), repair=False).result()


def test_the_answer_keeps_the_budget_in_the_file_that_is_written(session: Session, found: Allocation) -> None:
    compressed = session.compress(found.recipe)
    assert len(compressed.archive.to_bytes()) <= 60_000
    assert found.best.cost == compressed.nbytes
    for answer in found.candidates:
        assert answer.cost <= 60_000


def test_the_answer_is_searched_on_validation_and_reported_on_test(session: Session, found: Allocation) -> None:
    best = found.best
    assert best.validation is not None
    assert best.validation.accuracy == wb.Estimate.exact(best.accuracy, len(session.data["validation"]), "validation")
    assert best.reported is not None
    assert best.reported.accuracy == session.measure(found.recipe).accuracy
    assert best.reported.accuracy is not None
    assert best.reported.accuracy.split == "test"
    session.measure("[]")


def test_the_best_is_no_worse_than_greedy_or_uniform_on_validation(found: Allocation) -> None:
    for other in (found.greedy, found.uniform):
        assert other is not None
        assert found.best.accuracy >= other.accuracy
    assert found.best.predicted.kind == "predicted"
    assert {answer.by for answer in found.candidates} == {"exact", "greedy", "uniform"}


def test_a_second_budget_starts_from_what_the_first_measured(
    session: Session, found: Allocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an option was measured again")

    monkeypatch.setattr("workbench.analyze.cells.CellRunner.__call__", refuse)
    again = AllocationJob(session, Budget("bytes", 45_000), repair=False).result()
    assert again.best.cost <= 45_000
    assert again.images == found.images > 0


def test_the_smallest_model_within_a_loss_keeps_it_on_validation(session: Session, found: Allocation) -> None:
    answer = AllocationJob(session, Budget("drop", 0.01), repair=False).result()
    assert 0 <= answer.searched - answer.best.accuracy <= 0.01 + 1e-9
    for other in (answer.greedy, answer.uniform):
        assert other is not None
        assert answer.best.cost <= other.cost or other.accuracy < answer.searched - 0.01
    assert session.compress(answer.recipe).nbytes == answer.best.cost < 100_000


def test_a_loss_that_a_locked_layer_exceeds_names_the_lock(session: Session, found: Allocation) -> None:
    base = wb.Recipe.parse("- quantize: {bits: 1, layers: [fc1]}")
    with pytest.raises(WorkbenchError, match=r"0.1 points cannot be kept with fc1 locked: the least .* points"):
        AllocationJob(session, Budget("drop", 0.001), ["quantize"], base=base, locked=["fc1"], repair=False).result()


@pytest.mark.parametrize(
    ("kind", "limit", "methods"),
    [("macs", 150_000, ["channels"]), ("runtime_bytes", 200_000, ["quantize"]), ("bytes", 60_000, ["share"])],
)
def test_other_budgets_are_kept_too(session: Session, kind: Kind, limit: float, methods: list[str]) -> None:
    answer = AllocationJob(session, Budget(kind, limit), methods, repair=False).result().best
    assert answer.cost <= limit
    assert answer.validation is not None


def test_a_budget_that_cannot_be_met_names_the_nearest_that_can(session: Session) -> None:
    with pytest.raises(WorkbenchError, match=r"9,000 bytes cannot be met .* nearest that can is [\d,]+ bytes\.$"):
        AllocationJob(session, Budget("bytes", 9_000), ["quantize"]).result()


def test_what_the_recipes_other_steps_save_counts(session: Session) -> None:
    base = wb.Recipe.parse("- prune: {granularity: filter, scope: layer, ratio: 0.6}")
    session.measure(base)
    answer = AllocationJob(session, Budget("bytes", 18_000), ["quantize"], base=base, repair=False).result().best
    assert answer.recipe.steps[0] == base.steps[0]
    assert 13_000 < answer.cost <= 18_000
    record = session.history.find(session.key, answer.recipe.hash)
    assert record is not None
    assert record.parent is not None
    assert session.history.record(record.parent).recipe_hash == base.hash, "the history tells what it came from"
    session.measure("[]")


def test_a_recipe_that_was_trained_is_searched_without_its_training(session: Session) -> None:
    base = wb.Recipe.parse("- quantize: {bits: 4}\n- finetune: {epochs: 2}\n- distill: {epochs: 1}")
    found = AllocationJob(session, Budget("bytes", 60_000), ["quantize"], base=base, repair=False).result()
    assert [step.technique for step in found.best.recipe.steps] == ["quantize"]
    assert any("without finetune and distill, which would have to be trained anew" in one for one in found.remarks)
    front = FrontJob(session, 2, ["quantize"], base=base, repair=False)
    assert front.result()
    assert "without finetune and distill" in front.untrained
    assert FrontJob(session, 2, ["quantize"], base=wb.Recipe(), repair=False).untrained == ""


def test_a_scheduler_that_is_not_there_is_said_before_anything_runs(session: Session) -> None:
    for job in (partial(AllocationJob, session, Budget("bytes", 60_000)), partial(FrontJob, session)):
        with pytest.raises(WorkbenchError, match="No scheduler answers"):
            job(executor="tcp://127.0.0.1:1")


def test_locks_that_make_a_budget_impossible_are_named(session: Session) -> None:
    with pytest.raises(WorkbenchError, match=r"with fc1 locked; unlocked, [\d,]+ bytes can be reached"):
        AllocationJob(session, Budget("bytes", 60_000), ["quantize"], locked=["fc1"]).result()


@pytest.mark.slow
def test_a_repair_is_tried_behind_the_answer_and_kept_where_it_is_better(session: Session) -> None:
    found = AllocationJob(session, Budget("bytes", 60_000)).result()
    exact = [answer for answer in found.candidates if answer.by == "exact"]
    repairs = {answer.repair: answer for answer in exact}
    assert repairs.keys() == {"", "correct_bias", "gptq"}  # the model has no BatchNorm to recalibrate
    assert found.best.accuracy == max(answer.accuracy for answer in found.candidates)
    assert repairs["correct_bias"].recipe.steps[-1].technique == "correct_bias"
    assert {"rounding": "gptq"}.items() <= repairs["gptq"].recipe.to_data()[-1]["quantize"].items()
    assert repairs["gptq"].cost <= 60_000
    for other in (found.greedy, found.uniform):
        assert other is not None
        assert other.repair in ("", found.best.repair)


def test_a_locked_layer_keeps_what_it_has(session: Session) -> None:
    base = wb.Recipe.parse("- quantize: {bits: 8, overrides: {fc2: {bits: 3}}}\n- correct_bias")
    plan = plan_for(session.footing().subject, Budget("bytes", 1e5), ["quantize"], base, ["fc2"])
    recipe = plan.recipe(plan.choice_of((5,)))
    assert recipe.to_data() == [{"quantize": {"bits": 5, "overrides": {"fc2": {"bits": 3}}}}, {"correct_bias": {}}]


def test_a_locked_layer_keeps_settings_of_its_own_beside_the_dial(session: Session) -> None:
    base = wb.Recipe.parse("- quantize: {bits: 8, overrides: {fc2: {bits: 4, format: nf}}}")
    plan = plan_for(session.footing().subject, Budget("bytes", 1e5), ["quantize"], base, ["fc2"])
    for option in ((5,), (32,)):
        (step,) = plan.recipe(plan.choice_of(option)).steps
        assert step.settings_of("fc2") == base.steps[0].settings_of("fc2")
        assert step.settings_of("fc1").bits == option[0]  # type: ignore[attr-defined]


CHANNELS = "- prune: {granularity: filter, scope: layer, ratio: 0.5}"
WEIGHTS = "- prune: {ratio: 0.3}"


def test_pruning_weights_keeps_the_channels_that_the_recipe_removes_and_the_other_way_round(session: Session) -> None:
    subject = session.footing().subject
    for base, method in ((CHANNELS, "prune"), (WEIGHTS, "channels")):
        plan = plan_for(subject, Budget("bytes", 1e5), [method], wb.Recipe.parse(base))
        assert plan.base == wb.Recipe.parse(base)
        assert "stays as it is" in plan.stays
        channels, weights = plan.recipe(plan.choice_of((0.5,))).steps
        assert channels.settings.removes  # type: ignore[attr-defined]
        assert not weights.settings.removes  # type: ignore[attr-defined]
    both = wb.Recipe.parse(f"{CHANNELS}\n{WEIGHTS}")
    plan = plan_for(subject, Budget("bytes", 1e5), ["prune"], both)
    assert plan.base == wb.Recipe.parse(CHANNELS)
    assert plan.stays == "What the recipe prunes of channels stays as it is: all else is found on top of it."


@pytest.mark.parametrize(
    ("kind", "methods", "locked", "message"),
    [
        ("bytes", ["prunes"], [], "no technique 'prunes' to allocate by"),
        ("ms", ["quantize"], [], "'quantize' does not lower latency; choose from channels, factorize"),
        ("bytes", ["quantize", "share"], [], "cannot be allocated together"),
        ("bytes", ["quantize"], ["fc9"], "no layer 'fc9' to lock"),
        ("bytes", ["quantize"], ["fc1", "fc2", "fc3"], "Every layer is locked"),
    ],
)
def test_what_cannot_be_allocated_is_said(
    session: Session, kind: Kind, methods: list[str], locked: list[str], message: str
) -> None:
    with pytest.raises(WorkbenchError, match=message):
        plan_for(session.footing().subject, Budget(kind, 1e4), methods, locked=locked)


@pytest.mark.parametrize("limit", [0, -5, float("nan"), float("inf")])
def test_a_budget_of_nothing_is_refused(limit: float) -> None:
    with pytest.raises(WorkbenchError, match="should be above 0"):
        Budget("bytes", limit)


@pytest.mark.parametrize(
    ("kind", "amount", "told"),
    [
        ("ms", 0.0921, "0.093 ms"),
        ("ms", 16.1, "16.100 ms"),
        ("drop", 0.00121, "0.13 points"),
        ("drop", 0.005, "0.5 points"),
        ("drop", 0.123, "13 points"),
        ("drop", 0.0, "0 points"),
        ("bytes", 10.2, "11 bytes"),
    ],
)
def test_the_least_that_is_told_is_enough(kind: Kind, amount: float, told: str) -> None:
    assert Budget(kind, 1.0).say(amount) == told


def test_every_method_is_a_technique_with_a_dial() -> None:
    for method in METHODS.values():
        assert method.neutral == method.levels[0]


def test_the_command_prints_the_contract(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["allocate", "--model", "lenet300", "--data", "fashion_mnist", "--max-bytes", "60000", "--json"]
    assert main([*arguments, "--technique", "quantize", "--no-repair"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {"recipe", "predicted", "measured", "baselines"} <= report.keys()
    assert report["predicted"]["bytes"] == report["measured"]["size"]["bytes"] <= 60_000
    assert report["measured"]["accuracy"]["split"] == "test"
    assert report["baselines"].keys() == {"uniform", "greedy"}
    assert wb.Recipe.parse(report["recipe"]).steps


def test_the_command_refuses_what_cannot_be_met(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["allocate", "--model", "lenet300", "--data", "fashion_mnist", "--technique", "quantize", "--max-bytes"]
    assert main([*arguments, "100"]) == 2
    assert "the nearest that can is" in capsys.readouterr().err
