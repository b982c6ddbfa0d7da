"""The sensitivity tab's tables: how metrics rank the layers, and pairs of layers, measured on request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.widgets.conftest import wait_until
from widgets.base.marks import marks_of
from widgets.sensitivity.view import SensitivityView
from workbench.analyze.proxies import PROXIES
from workbench.analyze.ranking import OF_RUNS
from workbench.analyze.requests import requests_of
from workbench.analyze.studies import studies_of
from workbench.session import Session


def ask(view: SensitivityView, do: str, **content: Any) -> None:
    view._handle_custom_msg({"do": do, **content}, [])


@pytest.fixture
def history(tmp_path: Path) -> str:
    return str(tmp_path / "h.sqlite")


@pytest.fixture
def view(history: str) -> Iterator[SensitivityView]:
    with Session("lenet300", "fashion_mnist", history=history) as session:
        studies_of(session).start(session, "quantize", 0.03).wait()
        view = SensitivityView(session, technique="quantize", form="ranking")
        yield view
        view.close()


def test_metrics_are_found_on_request_ranked_beside_the_measured_drop_and_kept(
    view: SensitivityView, history: str
) -> None:
    assert {metric["name"] for metric in view.ranking["metrics"]} == set(OF_RUNS) - {"drop"}
    ask(view, "compare")
    wait_until(view, "asked", lambda asked: asked.get("state") == "done", 60)
    shown = view.ranking
    assert {metric["name"] for metric in shown["metrics"]} == {*PROXIES, *OF_RUNS} - {"drop"}
    correlations = [metric["spearman"] for metric in shown["metrics"] if metric["spearman"] is not None]
    assert correlations == sorted(correlations, reverse=True)
    lost = np.array(shown["drop"])
    assert (np.diff(lost[shown["rows"]]) <= 0).all()
    for metric in shown["metrics"]:
        assert sorted(metric["ranks"]) == [1, 2, 3], metric["name"]
        assert (metric["seconds"] is None) == (metric["name"] in OF_RUNS)
    free = {metric["name"] for metric in shown["metrics"] if metric["label_free"]}
    assert free == {"disagreement", "kl", "logit_mse", "sqnr", "weight_error"}
    with Session("lenet300", "fashion_mnist", history=history) as session:
        later = SensitivityView(session, technique="quantize", form="ranking")
        assert later.ranking == shown
        later.close()


def test_a_view_made_before_a_sweep_of_another_page_shows_it_once_it_is_seen(history: str) -> None:
    with Session("lenet300", "fashion_mnist", history=history) as early:
        view = SensitivityView(early, technique="quantize")
        view.set_state({"visible": False})
        with Session("lenet300", "fashion_mnist", history=history) as other:
            studies_of(other).start(other, "quantize", 0.05).wait()
        assert view.value == b""
        view.set_state({"visible": True})
        wait_until(view, "value", bool)
        assert len(view.value) == 3 * len(view.about["levels"]) * 4
        view.close()


def test_pairs_of_the_selected_layers_are_measured_on_request(view: SensitivityView) -> None:
    view.form = "pairs"
    ask(view, "pair")
    assert "2 to 24 layers" in view.problem
    assert view.session is not None
    marks_of(view.session).select("fc1", "fc3")
    ask(view, "pair")
    assert view.problem == ""
    wait_until(view, "asked", lambda asked: asked.get("state") == "done", 60)
    assert view.pairs["layers"] == [0, 2]
    value, half = np.array(view.pairs["value"]), np.array(view.pairs["half"])
    assert np.array_equal(value, value.T)
    found = requests_of(view.session).pairs
    assert found is not None
    assert 100 * found.value[0, 1] == pytest.approx(value[0, 1], abs=0.01)
    assert half[0, 0] == 0
    own = studies_of(view.session).of("quantize", "only")
    assert own is not None
    place = own.levels.index(view.pairs["level"])
    assert own.low[0, place] <= own.baseline.value - value[0, 0] / 100 <= own.high[0, place] + 0.01


def test_without_a_sweep_there_is_nothing_to_compare(view: SensitivityView) -> None:
    view.technique = "share"
    ask(view, "compare")
    assert view.problem == "Start a sweep first."
    assert view.ranking == {}
