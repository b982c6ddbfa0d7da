from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workbench.analyze.depth import _outputs, effective_rank, look_into
from workbench.analyze.layer_graph import layer_graph
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.session import Session


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session("lenet5", "fashion_mnist", history=":memory:") as session:
        yield session


def test_a_layer_without_a_recipe_is_the_same_before_and_after(session: Session) -> None:
    found = look_into(session, "conv2", Recipe())
    assert found.before == found.after
    assert found.outputs_before == found.outputs_after
    assert len(found.before.boxes) == 50
    weight = session.model.module.get_submodule("conv2").weight.detach().flatten(1).numpy()
    assert found.before.boxes[7] == pytest.approx(np.quantile(weight[7], (0, 0.25, 0.5, 0.75, 1)))
    assert found.before.outliers == pytest.approx((abs(weight - weight.mean()) > 4 * weight.std(ddof=1)).mean())
    assert 1 < (found.before.effective_rank or 0) < found.before.full_rank == 50
    assert found.macs_share == pytest.approx(1_600_000 / sum(layer.macs for layer in session.layers), rel=0.01)


def test_removed_channels_keep_their_numbers_and_silent_filters_are_dead(session: Session) -> None:
    fewer = look_into(session, "conv1", Recipe.parse("- prune: {granularity: filter, ratio: 0.5, scope: layer}"))
    assert len(fewer.after.channels) == len(fewer.after.boxes) < 20
    assert fewer.outputs_after is not None
    assert len(fewer.outputs_after.low) == len(fewer.after.channels)
    wiped = look_into(session, "conv1", Recipe.parse("- prune: {ratio: 0.95, scope: layer, layers: [conv1]}"))
    weight = session.compress(Recipe.parse("- prune: {ratio: 0.95, scope: layer, layers: [conv1]}")).weight_pair(
        "conv1"
    )
    silent = np.flatnonzero(weight.after.flatten(1).abs().amax(1).numpy() == 0)
    assert len(silent) > 0
    assert set(silent) <= set(wiped.dead)


def test_outputs_are_those_of_images_of_all_classes(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def reached(module: object, layer: str, images: Tensor, check: object) -> None:
        seen.append(images)
        raise WorkbenchError("Enough was seen.")

    monkeypatch.setattr("workbench.analyze.depth._outputs", reached)
    with pytest.raises(WorkbenchError, match="Enough"):
        look_into(session, "conv1", Recipe())
    split = session.data["calibration"]
    shown = [int((session.normalization(split.images) == image).flatten(1).all(1).nonzero()[0]) for image in seen[0]]
    assert len(split.labels[shown].unique()) == 10


@pytest.mark.parametrize("layer", [nn.Conv1d(2, 3, 1), nn.Conv2d(2, 3, 1), nn.Conv3d(2, 3, 1), nn.Linear(2, 3)])
def test_outputs_are_of_each_channel_over_all_images_alike(layer: nn.Module) -> None:
    """The last batch is a small one."""
    chance = torch.Generator().manual_seed(0)
    places = [4] * (len(layer.kernel_size) if isinstance(layer, nn.modules.conv._ConvNd) else 0)
    shape = [70, 2, *places] if places else [70, 5, 5, 2]
    images = torch.randn(shape, generator=chance) * (torch.arange(70) < 64).view(-1, *[1] * (len(shape) - 1))
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    found = _outputs(nn.Sequential(layer), "0", images, lambda: None)
    assert found is not None
    with torch.no_grad():
        output = layer(images).movedim(1 if places else -1, 0).flatten(1)
    assert found.low == pytest.approx(output.amin(1).tolist())
    assert found.high == pytest.approx(output.amax(1).tolist())
    assert found.zeros == pytest.approx(6 / 70)


def test_effective_rank_counts_equal_directions_and_low_rank_weights_have_less() -> None:
    assert effective_rank(np.ones(8, np.float32)) == pytest.approx(8)
    assert effective_rank(np.array([1, 0, 0], np.float32)) == pytest.approx(1)
    assert effective_rank(np.zeros(3, np.float32)) == 0
    assert 1 < effective_rank(np.array([10, 1, 1], np.float32)) < 3


def test_a_layer_that_is_not_there_is_refused(session: Session) -> None:
    with pytest.raises(WorkbenchError, match="nothing"):
        look_into(session, "nothing", Recipe())


def test_a_chain_is_a_chain_of_its_layers(session: Session) -> None:
    graph = layer_graph(session)
    assert graph.traced
    assert [place.label for place in graph.places] == ["input", "conv1", "conv2", "fc1", "fc2"]
    assert graph.links == ((0, 1), (1, 2), (2, 3), (3, 4))


def test_residual_links_meet_in_sums() -> None:
    with Session("resnet20", "fashion_mnist", history=":memory:") as session:
        graph = layer_graph(session)
    names = {place.label: number for number, place in enumerate(graph.places) if place.kind == "layer"}
    sums = [number for number, place in enumerate(graph.places) if place.kind == "join"]
    assert len(names) == 22
    assert len(sums) == 9
    first = sums[0]
    assert {(names["conv1"], first), (names["stage1.0.conv2"], first)} <= set(graph.links)
    assert graph.places[names["stage2.0.shortcut.0"]].column == graph.places[names["stage2.0.conv1"]].column
    assert all(graph.places[origin].column < graph.places[to].column for origin, to in graph.links)
