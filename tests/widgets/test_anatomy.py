from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.widgets.conftest import wait_until
from widgets.anatomy.view import FIGURES, AnatomyView
from widgets.base.marks import marks_of
from workbench.recipe import Recipe
from workbench.session import Session


@pytest.fixture(scope="module")
def real() -> Iterator[Session]:
    with Session("lenet5", "fashion_mnist", history=":memory:") as session:
        session.measure()
        yield session


def test_the_graph_follows_the_recipe_and_selecting_a_layer_selects_it_everywhere(
    real: Session, tmp_path: Path
) -> None:
    view = AnatomyView(real)
    graph = wait_until(view, "graph", bool)
    assert [place["label"] for place in graph["places"]] == ["input", *view.layers]
    assert wait_until(view, "depth", bool)["layer"] == marks_of(real).layer == "fc1"
    view._handle_custom_msg({"do": "select", "layer": 0}, [])
    assert wait_until(view, "depth", lambda depth: depth.get("layer") == "conv1")["dead"] == ()
    assert marks_of(real).selected == ("conv1",)
    assert view.selected == [0]
    recipe = Recipe.parse("- prune: {ratio: 0.5}")
    real.measure(recipe)
    wait_until(view, "depth", lambda depth: depth.get("recipe") == recipe.hash)
    values = np.frombuffer(view.values, np.float32).reshape(len(FIGURES), -1)
    assert values[0].sum() == pytest.approx(1, abs=0.02)
    zeros = [layer.sparsity for layer in real.snapshot.layers]
    assert values[3] == pytest.approx(zeros)
    assert view.save(tmp_path / "depth.svg").stat().st_size > 3_000
    view.close()
    view._errands.run("end", lambda: None).join()


def test_a_hidden_view_traces_nothing(real: Session) -> None:
    view = AnatomyView(real, visible=False)
    view._errands.run("end", lambda: None).join()
    assert view.graph == {}
    view.set_state({"visible": True})
    wait_until(view, "graph", bool)
    view.close()
    view._errands.run("end", lambda: None).join()


def test_the_profile_is_measured_when_asked_for_and_its_suggestions_can_be_applied(real: Session) -> None:
    real.measure(Recipe())
    view = AnatomyView(real)
    assert view.profile == {}
    view._handle_custom_msg({"do": "profile"}, [])
    found = wait_until(view, "profile", bool, 60)
    assert [layer["name"] for layer in found["layers"]] == view.layers
    assert not view.profiling
    suggested = found["words"]["suggestions"][0]["recipe"]
    view._handle_custom_msg({"do": "apply", "suggestion": 0}, [])
    assert real.recipe == Recipe.parse(suggested)
    view.close()
    view._errands.run("end", lambda: None).join()
    real.measure(Recipe())
