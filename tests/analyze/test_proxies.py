"""Metrics that need no sweep are what a plain computation of their definition gives, on a tiny model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import workbench as wb
from workbench.analyze.curvature import hessian_traces
from workbench.analyze.finding import Question
from workbench.analyze.interactions import interactions_of, measure_interactions
from workbench.analyze.proxies import ATTRIBUTED_IMAGES, IMAGES, PROXIES, find_proxies
from workbench.analyze.ranking import RankingJob, rank_metrics
from workbench.analyze.sensitivity import measure_sensitivity
from workbench.compression import context_for
from workbench.errors import WorkbenchError
from workbench.models.load import load_model
from workbench.session import Session
from workbench.subject import Subject

QUESTION = Question("quantize", "bits", (4, 2), ("0", "4"))


@pytest.fixture(scope="module")
def tiny() -> tuple[Subject, wb.Dataset]:
    chance = torch.Generator().manual_seed(0)
    images = torch.rand(150, 1, 6, 6, generator=chance)
    data = wb.load_dataset((images, (images.flatten(1).mean(1) * 300).long() % 3))
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3))
    return Subject.of(load_model(module), data.image_shape), data


def scores(tiny: tuple[Subject, wb.Dataset], name: str, question: Question = QUESTION) -> np.ndarray:
    subject, data = tiny
    (found,) = find_proxies(subject, context_for(subject.model, data), question, (name,)).values()
    assert found.problem == ""
    assert found.seconds > 0
    return found.score


def parts(tiny: tuple[Subject, wb.Dataset], count: int) -> tuple[nn.Module, Tensor, Tensor]:
    subject, data = tiny
    context = context_for(subject.model, data)
    assert context.normalization is not None
    images, labels = context.mixed(count)
    return subject.model.module, context.normalization(images), labels


def changes(tiny: tuple[Subject, wb.Dataset], layer: str) -> list[Tensor]:
    subject, data = tiny
    recipes = [QUESTION.recipe(layer, level) for level in QUESTION.levels]
    weight = f"{layer}.weight"
    return [wb.compress(subject.model, each, data).tensors[weight] - subject.tensors[weight] for each in recipes]


def full_hessian(module: nn.Module, weight: str, images: Tensor, labels: Tensor) -> Tensor:
    start = module.get_parameter(weight).detach()

    def loss(flat: Tensor) -> Tensor:
        logits = torch.func.functional_call(module, {weight: flat.view_as(start)}, (images,))
        return F.cross_entropy(logits, labels)

    return torch.autograd.functional.hessian(loss, start.flatten())


def gradients(module: nn.Module, weight: str, images: Tensor, labels: Tensor) -> Tensor:
    found = []
    for image, label in zip(images, labels, strict=True):
        value = module.get_parameter(weight).detach().clone().requires_grad_(True)
        logits = torch.func.functional_call(module, {weight: value}, (image[None],))
        (gradient,) = torch.autograd.grad(F.cross_entropy(logits, label[None]), [value])
        found.append(gradient.flatten())
    return torch.stack(found)


def test_hutchinsons_trace_is_that_of_the_full_hessian(tiny: tuple[Subject, wb.Dataset]) -> None:
    module, images, labels = parts(tiny, 32)
    trace, error = hessian_traces(module, [("0.weight",), ("4.weight",)], images, labels, 400, lambda: None)
    for place, weight in enumerate(("0.weight", "4.weight")):
        true = float(full_hessian(module, weight, images, labels).trace())
        assert abs(trace[place] - true) < 4 * error[place]
        assert error[place] < 0.2 * abs(true)


def test_hawq_is_the_mean_trace_times_the_squared_change(tiny: tuple[Subject, wb.Dataset]) -> None:
    trace, hawq = scores(tiny, "hessian_trace"), scores(tiny, "hawq")
    for place, layer in enumerate(QUESTION.layers):
        assert trace[place, 0] == trace[place, 1]
        squares = [float(change.square().sum()) for change in changes(tiny, layer)]
        np.testing.assert_allclose(hawq[place], trace[place, 0] * np.array(squares), rtol=1e-5)


def test_taylor_fisher_and_fit_are_what_each_images_own_gradient_says(tiny: tuple[Subject, wb.Dataset]) -> None:
    module, images, labels = parts(tiny, IMAGES)
    found = {name: scores(tiny, name) for name in ("taylor", "fisher", "fit")}
    for place, layer in enumerate(QUESTION.layers):
        own = gradients(module, f"{layer}.weight", images, labels)
        fisher = own.T @ own / len(own)
        for level, change in enumerate(changes(tiny, layer)):
            delta = change.flatten()
            wanted = {
                "taylor": (own @ delta).abs().mean(),
                "fisher": delta @ fisher @ delta / 2,
                "fit": fisher.trace() / len(delta) * delta.square().sum(),
            }
            for name, value in wanted.items():
                assert found[name][place, level] == pytest.approx(float(value), rel=1e-4), name


def test_weight_error_is_relative_to_the_weights(tiny: tuple[Subject, wb.Dataset]) -> None:
    found = scores(tiny, "weight_error")
    for place, layer in enumerate(QUESTION.layers):
        size = float(tiny[0].tensors[f"{layer}.weight"].square().sum())
        wanted = [float(change.square().sum()) / size for change in changes(tiny, layer)]
        np.testing.assert_allclose(found[place], wanted, rtol=1e-5)


def test_gradient_times_activation_is_that_by_hand_and_conductance_adds_up(tiny: tuple[Subject, wb.Dataset]) -> None:
    pytest.importorskip("captum")
    module, images, labels = parts(tiny, ATTRIBUTED_IMAGES)
    given = module[0](images).detach().requires_grad_(True)  # type: ignore[index]
    logits = module[1:](given)  # type: ignore[index]
    (gradient,) = torch.autograd.grad(logits[torch.arange(len(labels)), labels].sum(), [given])
    by_hand = float((gradient * given.detach()).abs().flatten(1).sum(1).mean())
    assert scores(tiny, "grad_activation")[0, 0] == pytest.approx(by_hand, rel=1e-4)
    # of the last layer, all that the right class's logit gained since the black image is its own
    black = module(torch.zeros_like(images))
    gained = (module(images) - black)[torch.arange(len(labels)), labels].abs().mean()
    assert scores(tiny, "conductance")[1, 0] == pytest.approx(float(gained), rel=0.05)


def test_without_labels_what_needs_none_still_works_and_the_rest_says_why(tiny: tuple[Subject, wb.Dataset]) -> None:
    subject, data = tiny
    context = context_for(subject.model, data)
    assert context.calibration is not None
    context.calibration.labels.fill_(-1)
    found = find_proxies(subject, context, QUESTION)
    assert np.isfinite(found["weight_error"].score).all()
    for name in set(PROXIES) - {"weight_error"}:
        assert "needs labels" in found[name].problem
        assert np.isnan(found[name].score).all()


def test_an_lstm_has_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IMAGES", "HESSIAN_IMAGES", "PROBES"):
        monkeypatch.setattr(f"workbench.analyze.proxies.{name}", 4)
    model, data = load_model("lstm"), wb.load_dataset("fashion_mnist")
    subject = Subject.of(model, data.image_shape)
    layers = tuple(layer.name for layer in subject.layers)
    found = find_proxies(subject, context_for(model, data), Question("quantize", "bits", (2,), layers), ("fit", "hawq"))
    for name, proxy in found.items():
        assert proxy.problem == "", name
        assert np.isfinite(proxy.score).all(), name


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session("lenet5", "fashion_mnist", history=":memory:") as opened:
        opened.measure()
        yield opened


def test_every_metric_is_ranked_beside_the_measured_drop(session: Session) -> None:
    found = measure_sensitivity(session, "quantize", values=[4, 2, 1], tolerance=0.02).result()
    ranked = {each.name: each for each in rank_metrics(found, RankingJob(session, found).result())}
    assert ranked["drop"].spearman == ranked["drop"].kendall == pytest.approx(1)
    assert set(PROXIES) < set(ranked)
    for name in PROXIES:
        assert ranked[name].seconds is not None
        assert np.isfinite(ranked[name].score).all(), name
        assert -1 <= ranked[name].spearman <= 1
    assert ranked["kl"].seconds is None
    assert ranked["kl"].spearman > 0.5
    order = np.argsort(found.lost[:, 1])
    one = {each.name: each for each in rank_metrics(found, level=2)}
    assert (np.argsort(one["drop"].score) == order).all()


@pytest.mark.slow
def test_interactions_are_what_pairs_cost_beyond_the_sum(session: Session) -> None:
    job = measure_interactions(session, ["conv*", "fc1"], "quantize", level=2)
    found = interactions_of(job.result())
    measured = {}
    for group in itertools.chain.from_iterable(itertools.combinations(found.layers, size) for size in (1, 2)):
        recipe = wb.Recipe.parse([{"quantize": {"bits": 2, "layers": list(group)}}])
        accuracy, baseline = session.measure(recipe).accuracy, session.snapshot.baseline.accuracy
        assert accuracy is not None
        assert baseline is not None
        measured[group] = baseline.value - accuracy.value
    session.measure("[]")
    for i, one in enumerate(found.layers):
        assert found.value[i, i] == pytest.approx(measured[(one,)])
        for j, two in enumerate(found.layers[i + 1 :], start=i + 1):
            wanted = measured[(one, two)] - measured[(one,)] - measured[(two,)]
            assert found.value[i, j] == found.value[j, i] == pytest.approx(wanted)
    assert not found.half.any()
    assert abs(found.worst(1)[0][2]) == np.abs(found.value[~np.eye(3, dtype=bool)]).max()


def test_a_pair_is_pruned_as_its_layers_are_alone(session: Session) -> None:
    found = measure_interactions(session, ["conv1", "fc1"], "prune", level=0.9, tolerance=0.05).result()
    both = wb.compress(session.model, found.question.recipe("conv1 and fc1", 0.9), session.data)
    sparsity = {layer.name: layer.sparsity for layer in both.layers}
    assert sparsity["conv1"] == pytest.approx(0.9, abs=0.01)
    assert sparsity["fc1"] == pytest.approx(0.9, abs=0.01)


def test_interactions_of_one_layer_are_refused(session: Session) -> None:
    with pytest.raises(WorkbenchError, match="2 to 24 layers, and 1 are chosen"):
        measure_interactions(session, ["fc1"])
