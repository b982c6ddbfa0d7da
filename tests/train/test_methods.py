"""Every trained technique: what it leaves is as sparse as was asked for, and better than without it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from workbench.compressed import CompressedModel
from workbench.compression import compress, context_for, draft_for
from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.subject import Subject
from workbench.techniques.trained import TRAINED, TrainingSettings
from workbench.train.constraints.base import Constraint
from workbench.train.constraints.gates import Gated, gates_of, keep_best, sparsity
from workbench.train.constraints.posteriors import Noisy
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within
from workbench.train.method import Learning, Moment
from workbench.train.methods import METHODS
from workbench.train.methods.learn_gates import HardConcrete
from workbench.train.methods.train_n_of_m import NOfM
from workbench.train.student import Student
from workbench.train.teaching.teachers import uncompressed

FAST: dict[str, Any] = {"batch": 16, "augment": "none", "learning_rate": 0.05}

SLOW = pytest.mark.slow
#: For what learns faster than weights.
ADAM: dict[str, Any] = {"epochs": 4, "optimizer": "adamw", "learning_rate": 0.01}


def trained(model: Model, data: Dataset, *steps: dict[str, Any]) -> tuple[CompressedModel, float]:
    """Return the compressed model and its validation accuracy, after training with fast settings."""
    filled = [
        {name: {**FAST, **fields} if name in METHODS else fields for name, fields in step.items()} for step in steps
    ]
    recipe = Recipe.parse(filled)
    after = train(model, data, recipe, place=Within()).result().after.value
    return compress(model, recipe, data), after


def zeros(compressed: CompressedModel) -> dict[str, float]:
    return {figures.name: figures.sparsity for figures in compressed.layers}


def overall(compressed: CompressedModel) -> float:
    weights = [compressed.tensors[f"{name}.weight"] for name in ("conv", "fc")]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(map(torch.numel, weights))


def test_every_technique_has_a_method() -> None:
    assert [technique.name for technique in TRAINED if technique.name not in METHODS] == []
    assert set(METHODS) == {technique.name for technique in TRAINED}


@pytest.mark.parametrize(
    ("step", "passes"),
    [
        ("find_ticket: {epochs: 2, rounds: 3}", 8),
        ("distill: {epochs: 3, assistants: 2}", 9),
        ("prune_gradually: {epochs: 6, rise: rounds, rounds: 4}", 6),
    ],
)
def test_passes_are_those_of_rounds_and_of_assistants_too(step: str, passes: int) -> None:
    settings = Recipe.parse(f"- {step}").steps[0].settings
    assert isinstance(settings, TrainingSettings)
    assert settings.passes == passes


@pytest.mark.parametrize(
    "settings",
    [
        {"ratio": 0.9, "epochs": 4, "every": 8},
        {"ratio": 0.9, "epochs": 4, "criterion": "movement", "every": 8},
        pytest.param({"ratio": 0.9, "epochs": 4, "rise": "rounds", "rounds": 3}, marks=SLOW),
    ],
)
def test_gradual_pruning_reaches_its_ratio_to_the_weight(
    settings: dict[str, Any], small_model: Model, small_data: Dataset
) -> None:
    compressed, after = trained(small_model, small_data, {"prune_gradually": settings})
    assert overall(compressed) == pytest.approx(0.9, abs=0.001)
    assert after > 0.85


def test_gradual_pruning_by_layer_follows_overrides_and_patterns(small_model: Model, small_data: Dataset) -> None:
    step = {"ratio": 0.75, "scope": "layer", "epochs": 2, "every": 4, "overrides": {"conv": {"ratio": 0.25}}}
    compressed, _ = trained(small_model, small_data, {"prune_gradually": step})
    assert zeros(compressed) == {"conv": 0.25, "fc": 0.75}
    compressed, _ = trained(small_model, small_data, {"prune_gradually": {"ratio": 0.5, "epochs": 1, "layers": ["fc"]}})
    assert zeros(compressed) == {"conv": 0.0, "fc": 0.5}


def test_nothing_is_pruned_by_movement_before_anything_moved(small_model: Model, small_data: Dataset) -> None:
    """Scores that are all zero would prune the last layers whole."""
    steps = {"ratio": 0.8, "criterion": "movement", "rise": "rounds", "rounds": 2, "every": 4, "end": 0.9}
    recipe = Recipe.parse([{"prune_gradually": steps}])
    (step,) = recipe.steps
    draft = draft_for(Subject.of(small_model, (1, 8, 8)), Recipe(), context_for(small_model, small_data))
    method = METHODS["prune_gradually"](step.settings)
    layers: Any = step.resolve(draft.layers)
    student = Student.of(draft, method, layers)
    shares = []
    for number in range(100):
        method.before_step(student, None, Moment(number, 100, 100))
        shares.append(sparsity(gates_of(student)))
    assert shares[0] == shares[44] == 0
    assert shares[48] == pytest.approx(1 - 0.2**0.5, abs=0.002)
    assert shares[89] == pytest.approx(shares[48], abs=0.002)
    assert shares[90] == pytest.approx(0.8, abs=0.002)


@pytest.mark.parametrize("technique", ["prune_gradually", "learn_scores"])
@pytest.mark.parametrize("own", ["conv", "fc"])  # the first layer, and another one
def test_layers_of_a_ratio_of_their_own_are_ranked_apart(
    technique: str, own: str, small_model: Model, small_data: Dataset
) -> None:
    step = {"ratio": 0.75, "epochs": 1, "every": 4, "overrides": {own: {"ratio": 0.25}}}
    if technique == "learn_scores":
        del step["every"]
    compressed, _ = trained(small_model, small_data, {technique: step})
    assert zeros(compressed) == {"conv": 0.75, "fc": 0.75} | {own: 0.25}


def test_layers_have_a_pattern_or_bits_of_their_own(small_model: Model, small_data: Dataset) -> None:
    step: dict[str, Any] = {"n": 2, "m": 4, "epochs": 1, "overrides": {"fc": {"n": 1}}}
    assert zeros(trained(small_model, small_data, {"train_n_of_m": step})[0])["fc"] == 0.75
    step = {"size": 0.4, "epochs": 1, "overrides": {"conv": {"fewest": 7}}}
    compressed, _ = trained(small_model, small_data, {"learn_bits": step})
    assert compressed.layers[0].bits >= 7


def test_what_was_pruned_in_training_stays_pruned_under_later_steps(small_model: Model, small_data: Dataset) -> None:
    steps = (
        {"prune_gradually": {"ratio": 0.8, "epochs": 3, "every": 8}},
        {"share": {"bits": 3}}, {"finetune": {"epochs": 2}},
    )  # fmt: skip
    compressed, after = trained(small_model, small_data, *steps)
    assert overall(compressed) == pytest.approx(0.8, abs=0.001)
    assert after > 0.85
    assert len(torch.unique(compressed.tensors["fc.weight"])) <= 9


def test_quantized_weights_are_pruned_gradually_on_their_grid(small_model: Model, small_data: Dataset) -> None:
    compressed, _ = trained(
        small_model, small_data, {"quantize": {"bits": 4}}, {"prune_gradually": {"ratio": 0.7, "epochs": 3, "every": 8}}
    )
    assert overall(compressed) >= 0.7 - 0.001
    assert compressed.layers[0].bits == 4


@pytest.mark.parametrize("grow", ["gradient", pytest.param("random", marks=SLOW)])
def test_a_sparse_network_is_trained_from_new_weights(grow: str, small_model: Model, small_data: Dataset) -> None:
    compressed, after = trained(
        small_model, small_data, {"train_sparse": {"ratio": 0.8, "grow": grow, "every": 10, "epochs": 6}}
    )
    assert overall(compressed) == pytest.approx(0.8, abs=0.01)
    conv, fc = (1 - zeros(compressed)[name] for name in ("conv", "fc"))
    wanted = (sum((8, 1, 3, 3)) / (8 * 9)) / (sum((3, 128)) / (3 * 128))  # Erdős-Rényi with kernel sizes
    assert conv / fc == pytest.approx(wanted, rel=0.1)
    assert after > 0.8


@pytest.mark.parametrize("grow", ["gradient", "random"])
def test_a_sparse_training_keeps_out_what_was_pruned_and_counts_it(
    grow: str, small_model: Model, small_data: Dataset
) -> None:
    steps = (
        {"prune": {"ratio": 0.4, "scope": "layer"}},
        {"train_sparse": {"ratio": 0.6, "density": "uniform", "grow": grow, "every": 5, "epochs": 1}},
    )
    compressed, _ = trained(small_model, small_data, *steps)
    assert zeros(compressed) == pytest.approx({"conv": 0.6, "fc": 0.6}, abs=0.01)


@pytest.mark.parametrize(
    ("before", "step", "said"),
    [
        ({"prune": {"ratio": 0.5}}, "train_n_of_m", "found no weights for its pattern"),
        ({"quantize": {"bits": 4}}, "learn_gates", "found no weights that can have gates"),
        ({"quantize": {"bits": 4}}, "sparsify_bayesian", "found no weights that can have a distribution"),
    ],
)
def test_a_step_that_would_only_train_on_says_so(
    before: dict[str, Any], step: str, said: str, small_model: Model, small_data: Dataset
) -> None:
    with pytest.raises(WorkbenchError, match=said):
        trained(small_model, small_data, before, {step: {}})


def test_what_was_there_before_is_not_taken_for_the_sparse_network(small_model: Model, small_data: Dataset) -> None:
    good, _ = trained(small_model, small_data, {"finetune": {"epochs": 3}})
    model = load_model(good.module)
    compressed, after = trained(model, small_data, {"train_sparse": {"ratio": 0.9, "epochs": 1}})
    images, labels = small_data["validation"].images, small_data["validation"].labels
    with torch.no_grad():
        right = (compressed.module(images).argmax(1) == labels).float().mean()
    assert float(right) == pytest.approx(after, abs=0.01)


def test_a_ticket_and_its_control_have_one_mask_and_two_beginnings(small_model: Model, small_data: Dataset) -> None:
    settings = {"ratio": 0.75, "rounds": 2, "epochs": 2}
    ticket, after = trained(small_model, small_data, {"find_ticket": settings})
    control, _ = trained(small_model, small_data, {"find_ticket": {**settings, "last": "random"}})
    assert overall(ticket) == pytest.approx(0.75, abs=0.001)
    for name in ("conv.weight", "fc.weight"):
        assert torch.equal(ticket.tensors[name] == 0, control.tensors[name] == 0)
        assert not torch.equal(ticket.tensors[name], control.tensors[name])
    assert after > 0.8


class Twice(nn.Module):
    """A convolution that runs twice, and activations that work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.fc = nn.ReLU(inplace=True), nn.Linear(256, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.first(x))
        logits: torch.Tensor = self.fc(self.act(self.again(self.act(self.again(x)))).flatten(1))
        return logits


def test_layers_that_are_as_they_were_have_nothing_to_reconstruct(small_data: Dataset) -> None:
    model = load_model(Twice().eval())
    (step,) = Recipe.parse("- reconstruct: {}").steps
    draft = draft_for(Subject.of(model, (1, 8, 8)), Recipe(), context_for(model, small_data))
    method = METHODS["reconstruct"](step.settings)
    layers: Any = step.resolve(draft.layers)
    student = Student.of(draft, method, layers).eval()
    objective = method.objective(uncompressed(draft))
    objective.watch(student)
    images, labels = small_data["train"].images[:8], small_data["train"].labels[:8]
    assert float(objective.loss(student, images, labels).detach()) == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        for parameter in student.constraints.parameters():
            parameter.mul_(0.9)
    objective.loss(student, images, labels).backward()
    assert all(parameter.grad is not None for parameter in student.constraints.parameters())


class Attentive(nn.Module):
    """Attention over the rows of an image, with embedded positions."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, 8, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.squeeze(1) + self.positions
        logits: torch.Tensor = self.fc(self.attention(rows, rows, rows, need_weights=False)[0].mean(1))
        return logits


def test_a_new_beginning_forgets_attention_and_embeddings_too(small_data: Dataset) -> None:
    torch.manual_seed(1)
    model = load_model(Attentive().eval())
    (step,) = Recipe.parse("- find_ticket: {}").steps
    draft = draft_for(Subject.of(model, (1, 8, 8)), Recipe(), context_for(model, small_data))
    method = METHODS["find_ticket"](step.settings)
    layers: Any = step.resolve(draft.layers)
    student = Student.of(draft, method, layers)
    method.begin(student)
    same = [name for name, value in student.values().items() if torch.equal(value, draft.tensors[name])]
    assert same == ["attention.in_proj_bias"]  # zeros, as attention begins
    spread = student.values()["positions"].detach().std()
    assert float(spread) == pytest.approx(float(draft.tensors["positions"].std()))


def test_gates_close_where_the_strength_says_so(small_model: Model, small_data: Dataset) -> None:
    mild, after = trained(small_model, small_data, {"learn_gates": {**ADAM, "strength": 0.0}})
    hard, _ = trained(small_model, small_data, {"learn_gates": {**ADAM, "strength": 5.0}})
    assert overall(mild) < 0.1
    assert overall(hard) > overall(mild) + 0.2
    assert after > 0.85


def test_gates_of_outputs_close_whole_filters(small_model: Model, small_data: Dataset) -> None:
    settings = {**ADAM, "strength": 5.0, "unit": "output", "layers": ["conv"]}
    compressed, _ = trained(small_model, small_data, {"learn_gates": settings})
    gone = (compressed.tensors["conv.weight"].flatten(1) == 0).sum(1)
    assert set(gone.tolist()) <= {0, 9}


def test_n_of_m_are_used_in_every_group(small_model: Model, small_data: Dataset) -> None:
    compressed, after = trained(small_model, small_data, {"train_n_of_m": {"n": 1, "m": 4, "epochs": 3}})
    used = (compressed.tensors["fc.weight"].view(-1, 4) != 0).sum(1)
    assert used.max() == 1
    assert after > 0.85
    with pytest.raises(WorkbenchError, match="n must be less than m, not 4:4"):
        Recipe.parse("- train_n_of_m: {n: 4, m: 4}")


@pytest.mark.parametrize("kind", ["group", pytest.param("l1", marks=SLOW), pytest.param("nuclear", marks=SLOW)])
def test_a_regularizer_makes_small_what_it_names(kind: str, small_model: Model, small_data: Dataset) -> None:
    from workbench.train.methods.regularize import SIZES

    free, _ = trained(small_model, small_data, {"regularize": {"kind": kind, "strength": 0.0, "epochs": 3}})
    held, after = trained(small_model, small_data, {"regularize": {"kind": kind, "strength": 2.0, "epochs": 3}})
    size = SIZES[kind]
    assert size(held.tensors["fc.weight"]) < 0.7 * size(free.tensors["fc.weight"])
    assert after > 0.8


def test_weights_that_are_mostly_noise_are_dropped(small_model: Model, small_data: Dataset) -> None:
    settings = {**ADAM, "epochs": 6, "strength": 3.0}
    compressed, after = trained(small_model, small_data, {"sparsify_bayesian": settings})
    assert overall(compressed) > 0.2
    assert after > 0.8


@pytest.mark.parametrize(
    "loss", ["hint", *(pytest.param(loss, marks=SLOW) for loss in ("attention", "relation", "similarity"))]
)
def test_features_teach_too(loss: str, small_model: Model, small_data: Dataset) -> None:
    _, after = trained(
        small_model, small_data, {"prune": {"granularity": "filter", "ratio": 0.5, "multiple": 4}},
        {"distill": {"loss": loss, "epochs": 3, "weight": 0.3}},
    )  # fmt: skip
    assert after > 0.8


def test_attention_needs_feature_maps(small_data: Dataset) -> None:
    flat = load_model(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)).eval())
    with pytest.raises(WorkbenchError, match="no feature maps that its teacher has too"):
        trained(flat, small_data, {"distill": {"loss": "attention", "epochs": 1}})


# The formulas


def student_of(model: Model, data: Dataset, text: str) -> tuple[Student, Any]:
    (step,) = Recipe.parse(text).steps
    draft = draft_for(Subject.of(model, (1, 8, 8)), Recipe(), context_for(model, data))
    layers: Any = step.resolve(draft.layers)
    method = METHODS[step.technique](step.settings)  # type: ignore[arg-type]
    return Student.of(draft, method, layers), method


def test_the_share_pruned_rises_by_the_cubic_schedule(small_model: Model, small_data: Dataset) -> None:
    """Zhu and Gupta 2017, equation 1, from nothing to the ratio over the first half of 100 steps."""
    student, method = student_of(small_model, small_data, "- prune_gradually: {ratio: 0.8, end: 0.5, every: 10}")
    for step in range(100):
        method.before_step(student, None, Moment(step, 100, 100))
        last = min(step // 10 * 10, 50)
        expected = 0.8 * (1 - (1 - last / 50) ** 3)
        assert sparsity(gates_of(student)) == pytest.approx(expected, abs=0.001)
        assert method.finished(Moment(step, 100, 100)) == (step > 50)


def test_the_best_are_kept_over_all_and_nothing_comes_back() -> None:
    gates = {name: Gated(Constraint(torch.tensor(values))) for name, values in (("a", [1.0, 4.0]), ("b", [3.0, 2.0]))}
    keep_best({name: gate.magnitudes() for name, gate in gates.items()}, gates, 0.5)
    assert [gate.kept.tolist() for gate in gates.values()] == [[False, True], [True, False]]
    keep_best({"a": torch.tensor([9.0, 1.0]), "b": torch.tensor([2.0, 9.0])}, gates, 0.25)
    assert [gate.kept.tolist() for gate in gates.values()] == [[False, True], [True, False]]


def test_a_gated_tensor_tells_the_gradient_of_what_it_lacks() -> None:
    gate = Gated(Constraint(torch.tensor([2.0, 3.0])))
    gate.kept[0] = False
    gate.watch()
    (gate() * torch.tensor([5.0, 7.0])).sum().backward()
    gradient = gate.gradient()
    assert gradient is not None
    assert gradient.tolist() == [5.0, 7.0]
    inner = gate.inner
    assert isinstance(inner, Constraint)
    assert inner.values.grad is not None
    assert inner.values.grad.tolist() == [0.0, 7.0]


def test_a_hard_concrete_gate_is_open_with_the_chance_it_tells() -> None:
    torch.manual_seed(0)
    part = HardConcrete(Constraint(torch.ones(100_000)), by_output=False, chance=0.3)
    share = (part() != 0).float().mean()
    assert float(share) == pytest.approx(0.3, abs=0.01)
    assert float(part.open().detach()) / 100_000 == pytest.approx(0.3, abs=1e-4)


def test_the_divergence_is_the_published_approximation() -> None:
    """Molchanov et al. 2017, equation 14: zero for certain noise, and falling with log alpha."""
    part = Noisy(Constraint(torch.ones(1)), 3.0)
    found = []
    for log_alpha in (-4.0, 0.0, 4.0, 10.0):
        with torch.no_grad():
            part.log_variance.fill_(log_alpha)
        found.append(float(part.divergence().detach()))
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(0.0, abs=1e-3)
    assert found[1] == pytest.approx(0.63576 * (1 - torch.sigmoid(torch.tensor(1.8732)).item()) + 0.5 * 0.693147, 1e-4)


def test_unused_weights_learn_by_the_gradient_of_used_ones() -> None:
    part = NOfM(Constraint(torch.tensor([[3.0, -1.0, 2.0, 0.5]])), 2, 4)
    assert part().tolist() == [[3.0, 0.0, 2.0, 0.0]]
    (part() * torch.tensor([[1.0, 2.0, 3.0, 4.0]])).sum().backward()
    inner = part.inner
    assert inner.values.grad is not None
    assert inner.values.grad.tolist() == [[1.0, 2.0, 3.0, 4.0]]


def test_inputs_and_outputs_of_a_transposed_convolution_are_its_own() -> None:
    """Its weight is (in, out, kernel), the other way round than a convolution's."""
    weight = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(0))

    def held(text: str) -> Any:
        (step,) = Recipe.parse(f"- {text}").steps
        method = METHODS[step.technique](step.settings)  # type: ignore[arg-type]
        return method.constrain(Learning("up.weight", weight, None, None, step.settings, axis=1))

    used = held("train_n_of_m: {n: 1, m: 4}")() != 0
    assert set(used.view(2, 4, 4, 3, 3).sum(1).flatten().tolist()) == {1}
    assert held("learn_gates: {unit: output}").log_alpha.shape == (1, 4, 1, 1)
    norms = weight.movedim(1, 0).flatten(1).norm(dim=1).sum() * (8 * 9) ** 0.5
    torch.testing.assert_close(held("regularize: {kind: group}").size().detach(), norms)
