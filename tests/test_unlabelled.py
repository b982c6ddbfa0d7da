"""Without labels all that looks at none of them works, and the rest says why it can't."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.analyze.compare import compare_settings, judge_classes
from workbench.analyze.comparison_report import comparison_report, render_comparison
from workbench.analyze.keeping import pack_sensitivity, unpack_sensitivity
from workbench.analyze.ranking import RankingJob, rank_metrics
from workbench.analyze.report import render_sensitivity, sensitivity_report
from workbench.analyze.sensitivity import measure_sensitivity
from workbench.cli import main
from workbench.errors import WorkbenchError
from workbench.history.table import ancestors, to_csv, to_row
from workbench.search.budget import Budget
from workbench.search.job import AllocationJob
from workbench.search.report import allocation_report, render_allocation
from workbench.session import Session
from workbench.train.jobs.job import train

RECIPE = "- quantize: {bits: 2}"


def images(count: int) -> np.ndarray:
    return wb.load_dataset("fashion_mnist")["test"].images[:count].numpy()


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session("lenet300", wb.load_dataset(images(600)), history=":memory:") as opened:
        opened.measure()
        yield opened


def test_the_figure_is_agreement_and_there_is_no_accuracy(session: Session) -> None:
    assert session.data.classes == tuple("0123456789")
    dense, snapshot = session.measure("[]"), session.measure(RECIPE)
    assert snapshot.accuracy is snapshot.loss is snapshot.top5 is snapshot.baseline.accuracy is None
    assert dense.agreement is not None
    assert dense.agreement.value == 1
    answers = [session.answers(snapshot.recipe), session.answers(dense.recipe)]
    assert snapshot.agreement is not None
    assert snapshot.agreement.value == pytest.approx((answers[0] == answers[1]).mean())
    assert 0.2 < snapshot.agreement.value < 0.999
    assert snapshot.score == snapshot.agreement
    assert snapshot.flips
    assert not any(flip.lost or flip.won for flip in snapshot.flips)


def test_what_the_history_keeps_has_no_accuracy_either(session: Session) -> None:
    session.measure(RECIPE)
    record = session.records()[-1]
    assert record.accuracy is record.loss is record.top5 is None
    assert record.score == record.agreement < 1
    row = to_row(session.key, record)
    assert row["accuracy"] is row["loss"] is None
    assert row["agreement"] == record.agreement
    assert to_csv([row]).splitlines()[1].split(",")[10:14] == ["", "", "", f"{record.agreement}"]
    ancestor = ancestors(session.history.record, record)[0]
    assert (ancestor["accuracy"], ancestor["agreement"]) == (None, 1.0)


def test_a_sweep_ranks_by_what_needs_no_label(session: Session) -> None:
    session.measure("[]")
    found = measure_sensitivity(session, "quantize", values=[2], tolerance=0.05).result()
    assert found.loss != found.loss
    np.testing.assert_allclose(found.lost, found.harm("disagreement").value)
    for metric in ("kl", "logit_mse", "sqnr"):
        assert np.isfinite(found.harm(metric).value).all()
    assert not unpack_sensitivity(pack_sensitivity(found)).labelled
    report = sensitivity_report(session, found)
    assert report["layers"][0]["accuracy"] == report["layers"][0]["loss"] == [None]
    assert "points of agreement lost" in render_sensitivity(report)
    proxies = RankingJob(session, found, ("weight_error", "fisher")).result()
    assert proxies["weight_error"].problem == ""
    assert "needs labels" in proxies["fisher"].problem
    ranks = {each.name: each.spearman for each in rank_metrics(found, proxies)}
    assert ranks["kl"] == ranks["kl"]


def test_settings_are_compared_by_their_answers(session: Session) -> None:
    recipe = wb.Recipe.parse(RECIPE)
    found = compare_settings(session, [wb.Recipe(), recipe])
    (contrast,) = found.contrasts
    assert contrast.classes is None
    assert contrast.flips.lost == contrast.flips.won == 0 < contrast.flips.other
    report = comparison_report(session, found, ["dense", "2 bit"])
    assert "have no labels" in report["comparisons"][0]["summary"]
    assert "answered otherwise" in render_comparison(report)
    with pytest.raises(WorkbenchError, match="Accuracy per class needs labels"):
        judge_classes(session, recipe)


@pytest.mark.slow
def test_an_allocation_is_found_by_divergence_and_judged_by_agreement(session: Session) -> None:
    session.measure("[]")
    found = AllocationJob(session, Budget("bytes", 120_000), ["quantize"], executor="inline").result()
    report = allocation_report(session, found)
    assert report["measured"]["accuracy"] is None
    assert report["measured"]["agreement"]["value"] > 0.8
    assert report["measured"]["size"]["bytes"] <= 120_000
    assert "since there are no labels" in render_allocation(report)


@pytest.mark.parametrize("criterion", ["taylor", "fisher"])
def test_criteria_that_look_at_the_loss_say_so(session: Session, criterion: str) -> None:
    with pytest.raises(WorkbenchError, match=f"Pruning by {criterion} looks at the loss, which needs labels"):
        session.measure(f"- prune: {{criterion: {criterion}, ratio: 0.5}}")
    session.measure("[]")


def test_training_says_so(session: Session) -> None:
    with pytest.raises(WorkbenchError, match="Training needs labels, and the train images"):
        train(session.model, session.data, wb.Recipe.parse("- prune: {ratio: 0.5}\n- finetune: {epochs: 1}"))


def test_the_command_line_tells_agreement_and_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "images.npz", x=images(300))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    asked = ["evaluate", "--model", "lenet300", "--data", str(tmp_path / "images.npz")]
    asked += ["--recipe", str(tmp_path / "recipe.yaml")]
    assert main([*asked, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["accuracy"] is report["loss"] is report["baseline"]["accuracy"] is None
    assert report["agreement"]["kind"] == "exact"
    assert "no labels" in report["why_no_accuracy"]
    assert main(asked) == 0
    assert "(no labels: answers like the dense model's" in capsys.readouterr().out


def test_a_test_set_alone_may_lack_labels() -> None:
    labelled = wb.load_dataset("fashion_mnist")
    few = {name: (labelled[name].images[:400], labelled[name].labels[:400]) for name in ("train", "validation")}
    data = wb.load_dataset({**few, "test": images(300)}, classes=labelled.classes)
    with Session("lenet300", data, history=":memory:") as session:
        snapshot = session.measure("- prune: {criterion: fisher, ratio: 0.5}")
        assert snapshot.error is None
        assert snapshot.accuracy is None
        assert session.data.classes == labelled.classes
