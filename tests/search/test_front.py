"""The front holds what nothing measured beats; a search that ended goes on with the trials it had."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import workbench as wb
from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.search.front import KIND, FrontJob
from workbench.search.testbed import Testbed
from workbench.session import Session


def small() -> Dataset:
    """Return Fashion-MNIST with a few images of each split."""
    data = wb.load_dataset("fashion_mnist")
    return replace(data, splits={name: data[name].take(torch.arange(200)) for name in data.splits})


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session("lenet300", small(), history=str(tmp_path / "history.sqlite")) as opened:
        opened.measure()
        yield opened


def trials(session: Session) -> int:
    key = Testbed(session, "validation", lambda: None).key
    kept = session.history.findings(key, KIND)
    return kept[0].payload.count(b'"genes"') if kept else 0


def test_nothing_on_the_front_is_beaten_and_trials_outlive_their_search(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = FrontJob(session, 10, ["quantize"]).result()
    for point in first:
        for other in first:
            better = other.accuracy.value >= point.accuracy.value and other.bytes < point.bytes
            assert not better, (point, other)
    assert [point.bytes for point in first] == sorted(point.bytes for point in first)
    assert len({point.bytes for point in first}) > 3  # exact answers to a ladder of budgets are on it
    assert trials(session) == 10
    measured: list[str] = []
    measure = Testbed.measure
    monkeypatch.setattr(Testbed, "measure", lambda bed, recipe: measured.append(recipe.hash) or measure(bed, recipe))
    more = FrontJob(session, 14, ["quantize"]).result()
    assert len([each for each in measured if each != wb.Recipe().hash]) <= 4
    assert trials(session) == 14
    for point in first:  # what was on the front is on it still, or beaten
        assert any(other.accuracy.value >= point.accuracy.value and other.bytes <= point.bytes for other in more)


def test_a_front_of_other_settings_of_a_technique_is_searched_anew(session: Session) -> None:
    by_tensor, by_row = (
        wb.Recipe.parse(f"- quantize: {{bits: 8, per: {per}}}") for per in ("tensor", "channel")
    )  # fmt: skip
    FrontJob(session, 6, ["quantize"], base=by_tensor, repair=False, executor="inline").result()
    points = FrontJob(session, 6, ["quantize"], base=by_row, repair=False, executor="inline").result()
    found = Testbed(session, "validation", lambda: None)
    for point in points:
        assert found.measure(point.recipe).size.bytes == point.bytes, "of the other setting"


def test_a_front_of_nothing_is_refused(session: Session) -> None:
    with pytest.raises(WorkbenchError, match="1 or more"):
        FrontJob(session, 0)
    with pytest.raises(WorkbenchError, match="no technique 'nothing' to allocate by"):
        FrontJob(session, 1, ["nothing"]).result()
    with pytest.raises(WorkbenchError, match="no layer 'fc9' to lock"):
        FrontJob(session, 1, ["quantize"], locked=["fc9"]).result()


def test_other_steps_and_locked_layers_stay_as_they_are_in_every_recipe(session: Session) -> None:
    base = wb.Recipe.parse("- prune: {ratio: 0.3}\n- quantize: {bits: 8, overrides: {fc3: {bits: 6}}}")
    points = FrontJob(session, 8, ["quantize"], base=base, locked=["fc3"], repair=False, executor="inline").result()
    assert points
    for point in points:
        assert point.recipe.steps[0] == base.steps[0]
        assert [step.technique for step in point.recipe.steps[2:]] == []
        (step,) = (step for step in point.recipe.steps if step.technique == "quantize")
        assert step.settings_of("fc3").bits == 6  # type: ignore[attr-defined]
    others = FrontJob(session, 1, ["quantize"], locked=["fc3"]).result()
    assert all(point.recipe.hash not in {other.recipe.hash for other in others} for point in points)


CODE = """
import sys
from tests.search.test_front import small
from workbench.search.front import FrontJob
from workbench.session import Session
with Session("lenet300", small(), history=sys.argv[1]) as session:
    session.measure()
    job = FrontJob(session, 200, ["quantize"])
    job.subscribe(lambda progress: print(int(progress.done), flush=True))
    job.result()
"""


@pytest.mark.slow
def test_killed_in_the_middle_of_a_search_it_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "killed.sqlite")
    with subprocess.Popen([sys.executable, "-c", CODE, path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        done = next(int(line) for line in process.stdout if int(line) >= 5)
        process.send_signal(signal.SIGKILL)
    with Session("lenet300", small(), history=path) as session:
        session.measure()
        before = trials(session)
        assert before >= done
        first = FrontJob(session, before + 2, ["quantize"])
        first.result()
        assert trials(session) == before + 2


class Tied(torch.nn.Module):
    """Two layers of one weight, and the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other, self.last = (torch.nn.Linear(64, count) for count in (64, 64, 10))
        self.other.weight = self.one.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.nn.functional.adaptive_avg_pool2d(x, 8).flatten(1)
        logits: torch.Tensor = self.last(torch.relu(self.other(torch.relu(self.one(x)))))
        return logits


@pytest.mark.slow
def test_a_front_of_a_model_with_tied_weights_is_found() -> None:
    """What they save together is counted for each: the sum of the parts is less than nothing."""
    torch.manual_seed(0)
    with Session(Tied().eval(), small(), history=":memory:") as session:
        assert FrontJob(session, 2, ["quantize"], repair=False, executor="inline").result()
