"""Images that nobody took: made as asked, the same each time, and good enough to learn from."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from workbench.cli import main
from workbench.cli.common import load_data
from workbench.compression import compress
from workbench.data.dataset import UNLABELLED, Dataset, Normalization, Split
from workbench.errors import WorkbenchError
from workbench.history import History
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.session import Session
from workbench.train.jobs.job import train
from workbench.train.jobs.process import Within
from workbench.train.synthetic import SOURCES, Synthesis, synthesize, synthesizing
from workbench.train.synthetic.gan import Critic, Generator, Sides, generate, train_generator
from workbench.train.synthetic.inversion import Statistics


@pytest.fixture(scope="module")
def taught(small_data: Dataset) -> Model:
    """A small model with BatchNorm that knows the three classes."""
    from tests.train.conftest import Small

    torch.manual_seed(1)
    module = Small()
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    images, labels = small_data["train"].images, small_data["train"].labels
    for part in torch.arange(480).view(-1, 32).repeat(4, 1):
        optimizer.zero_grad()
        F.cross_entropy(module(images[part]), labels[part]).backward()
        optimizer.step()
    return load_model(module.eval())


def linear(classes: int) -> Model:
    return load_model(nn.Sequential(nn.Flatten(), nn.Linear(64, classes)))


def far(model: Model, images: torch.Tensor) -> float:
    statistics = Statistics(model.module)
    with torch.no_grad():
        model.module(images)
    return float(statistics.far())


@pytest.mark.parametrize("source", SOURCES)
def test_made_images_take_the_place_of_training_images_alone(source: str, taught: Model, small_data: Dataset) -> None:
    made = synthesize(taught, small_data, f"{source},images=60" + (",steps=10" if SOURCES[source].steps else ""))
    assert made["train"].images.shape == (60, 1, 8, 8)
    assert made["train"].images.dtype == small_data["train"].images.dtype
    assert bool(made["train"].images.isfinite().all())
    assert set(made["train"].labels.tolist()) <= {0, 1, 2}
    assert made["test"] is small_data["test"]
    assert made["validation"] is small_data["validation"]
    assert source in made.name
    assert ("No real image" in made.notes[-1]) is not SOURCES[source].looks


def test_deepinversion_gives_the_statistics_that_batchnorm_remembers_and_the_wanted_classes(
    taught: Model, small_data: Dataset
) -> None:
    made = synthesize(taught, small_data, "deepinversion,images=60,steps=60")["train"]
    noise = synthesize(taught, small_data, "noise,images=60")["train"]
    assert far(taught, made.images) < 0.25 * far(taught, noise.images)
    with torch.no_grad():
        assert float((taught.module(made.images).argmax(1) == made.labels).float().mean()) > 0.95


def test_a_compressed_model_recovers_by_images_made_from_the_model_alone(
    taught: Model, small_data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "deepinversion", replace(SOURCES["deepinversion"], images=200, steps=30))
    steps = "- prune: {ratio: 0.8, criterion: random}\n- distill: {epochs: 8, batch: 32, augment: none, learn_from: "
    recipe = Recipe.parse(steps + "deepinversion, learning_rate: 0.05}")
    trained = train(taught, small_data, recipe, place=Within()).result()
    assert trained.after.value > trained.before.value + 0.2
    assert compress(taught, recipe, small_data).nbytes > 0  # found again under the recipe's key
    assert recipe.hash != Recipe.parse(steps + "train, learning_rate: 0.05}").hash


def test_made_images_are_kept_and_follow_from_the_seed(taught: Model, small_data: Dataset, tmp_path: Path) -> None:
    def made(how: str) -> Split:
        return synthesize(taught, small_data, how)["train"]

    first = made("impressions,images=20,steps=5")
    (file,) = (tmp_path / "home" / "synthetic").iterdir()
    assert torch.equal(made("impressions,images=20,steps=5").images, first.images)
    file.unlink()
    assert torch.equal(made("impressions,images=20,steps=5").images, first.images)
    assert not torch.equal(made("impressions,images=20,steps=5,seed=1").images, first.images)


def test_pixels_stay_pixels(taught: Model, small_data: Dataset) -> None:
    def pixels(split: Split) -> Split:
        return replace(split, images=(split.images.clamp(-1, 2) * 85 + 85).to(torch.uint8))

    data = replace(
        small_data, splits={name: pixels(split) for name, split in small_data.splits.items()},
        normalization=Normalization((0.4,), (0.3,)),
    )  # fmt: skip
    for source in ("deepinversion,images=20,steps=3", "class_gan,images=20,steps=3", "mixup,images=20"):
        assert synthesize(taught, data, source)["train"].images.dtype == torch.uint8


def test_mixtures_lie_between_the_images_that_may_be_looked_at(taught: Model, small_data: Dataset) -> None:
    few = replace(small_data, splits={**small_data.splits, "train": small_data["train"].take(torch.arange(6))})
    made = synthesize(taught, few, "mixup,images=200")["train"].images.flatten(1)
    real = few["train"].images.flatten(1)
    # every mixture is on the line between some two: its distances to them sum to theirs
    sums = torch.cdist(made, real)
    pairs = sums[:, :, None] + sums[:, None, :] - torch.cdist(real, real)
    pairs += 1e3 * torch.eye(6)
    assert float((pairs.flatten(1).min(1).values / made.norm(dim=1)).max()) < 1e-2


@pytest.mark.slow
def test_a_generator_with_classes_learns_which_is_which(small_data: Dataset) -> None:
    data = small_data["train"]
    images = (data.images / 3).clamp(-1, 1)
    generator = train_generator(images, data.labels, 3, 200, 16, 0)
    means = torch.stack([images[data.labels == label].mean(0) for label in range(3)]).flatten(1)
    nearest = torch.cdist(generate(generator, torch.arange(60) % 3, 1).flatten(1), means).argmin(1)
    assert float((nearest == torch.arange(60) % 3).float().mean()) > 0.7  # 0.33 by chance


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 5, 30), (1, 1, 1)])
def test_a_generator_makes_images_of_any_shape(shape: tuple[int, ...]) -> None:
    assert Generator(shape)(torch.randn(2, 64)).shape == (2, *shape)
    assert Sides.of(*shape[1:]).steps[-1] == shape[1:]
    assert train_generator(torch.zeros(4, *shape), None, 0, 1, 4, 0) is not None


@pytest.mark.parametrize("classes", [0, 3])
def test_teaching_the_generator_computes_no_gradient_of_the_critics_weights(classes: int) -> None:
    images, labels = torch.zeros(8, 1, 28, 28), torch.arange(8) % 3 if classes else None
    generator, critic = Generator((1, 28, 28), classes), Critic((1, 28, 28), classes)
    with FlopCounterMode(display=False) as making:
        made = generator(torch.randn(8, 64), labels)
    with FlopCounterMode(display=False) as judging:
        critic(made.detach(), labels)
    with FlopCounterMode(display=False) as training:
        train_generator(images, labels, classes, 1, 8, 0)
    # a backward pass is twice a forward one; the critic goes forward three times, and back in full twice (beside
    # which its weights' norms are little)
    most = 3 * making.get_total_flops() + (3 + 2 * 2 + 1) * judging.get_total_flops()
    assert 0.8 * most < training.get_total_flops() < 1.02 * most


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("deepinversion", "has no BatchNorm .* take 'impressions'"),
        ("nonsense", "source='nonsense'"),
        ("gan,images", "'images' is no setting"),
        ("gan,images=none", "images='none'"),
        ("impressions,real=10", "looks at no real image"),
    ],
)
def test_what_cannot_be_made_is_said(how: str, said: str, small_data: Dataset) -> None:
    with pytest.raises(WorkbenchError, match=said):
        synthesize(linear(3), small_data, how)


def test_sources_that_look_at_images_need_some(taught: Model, small_data: Dataset) -> None:
    bare = replace(small_data, splits={"test": small_data["test"], "validation": small_data["validation"]})
    with pytest.raises(WorkbenchError, match="'gan' learns from training images, which 'patches' has not"):
        synthesize(taught, bare, "gan")
    assert len(synthesize(taught, bare, "impressions,images=20,steps=2")["calibration"]) == 20


def test_a_figure_measured_with_some_images_is_not_taken_for_that_with_others(
    taught: Model, small_data: Dataset
) -> None:
    recipe = Recipe.parse("- prune: {ratio: 0.9}\n- recalibrate: {}")
    history, losses = History(":memory:"), []
    for data in (small_data, synthesize(taught, small_data, "noise,images=60")):
        with Session(taught, data, history=history) as session:
            loss = session.measure(recipe).loss
            assert loss is not None
            losses.append(loss.value)
    assert losses[0] != losses[1]


def test_images_without_labels_get_the_models_answers(taught: Model, small_data: Dataset) -> None:
    train = replace(small_data["train"], labels=torch.full((480,), UNLABELLED))
    data = replace(small_data, splits={**small_data.splits, "train": train}, classes=())
    for how in ("mixup,images=60", "gan,images=60,steps=2", "impressions,images=60,steps=30"):
        made = synthesize(taught, data, how)["train"]
        assert made.labelled
        assert int(made.labels.max()) <= 2
    with pytest.raises(WorkbenchError, match=r"'class_gan' needs labels.* take 'gan'"):
        synthesize(taught, data, "class_gan")


def test_making_can_be_given_up(taught: Model, small_data: Dataset) -> None:
    job = synthesizing(taught, small_data, Synthesis.parse("gan,steps=100000"))
    job.cancel()
    assert job.wait(30)
    assert job.progress.state == "cancelled"


def test_a_training_on_images_that_cannot_be_made_is_refused_at_once(small_data: Dataset) -> None:
    with pytest.raises(WorkbenchError, match="no BatchNorm"):
        train(linear(3), small_data, Recipe.parse("- finetune: {learn_from: deepinversion}"))


def test_the_command_line_takes_made_images(capsys: pytest.CaptureFixture[str]) -> None:
    data = load_data(Namespace(data="digits", synthetic="mixup,images=100,real=50"), linear(10))
    assert data.name == "digits+mixup,images=100,real=50"
    assert (len(data["train"]), len(data["calibration"]), len(data["test"])) == (100, 100, 359)
    assert load_data(Namespace(data="digits", synthetic=None), linear(10)).name == "digits"
    assert main(["evaluate", "--model", "lenet300", "--data", "fashion_mnist", "--synthetic", "deepinversion"]) == 2
    assert "no BatchNorm" in capsys.readouterr().err
