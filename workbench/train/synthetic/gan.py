"""A small generative adversarial network, trained on the spot on the images there are.

A generator of a few convolutions, each at twice the size of the last, against a critic with spectral normalization
(Miyato et al. 2018), by the hinge loss; the images come from a running mean of the generator's weights. With
classes, the generator is told the class beside its noise and the critic projects onto it (Miyato and Koyama 2018),
so that an image comes with its label.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

#: Length of the noise an image is made from.
NOISE = 64
#: Channels at the full size; each halving of the sides doubles them, up to four times as many.
WIDTH = 16
#: Sides at which the generator starts, at most.
SMALLEST = 7
#: Share of the old mean of the generator's weights that a step keeps.
KEPT = 0.99
LEARNING_RATE = 1e-3
#: Weight of the loss that keeps different noises from giving the same image (Mao et al. 2019, "Mode seeking").
DIVERSITY = 0.1


@dataclass(frozen=True)
class Sides:
    """The sizes an image passes through, from the smallest to its own: ``((7, 7), (14, 14), (28, 28))``."""

    steps: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, height: int, width: int) -> Sides:
        """Halve until the longer side is at most ``SMALLEST``."""
        steps = [(height, width)]
        while max(steps[0]) > SMALLEST and min(steps[0]) > 1:
            steps.insert(0, (math.ceil(steps[0][0] / 2), math.ceil(steps[0][1] / 2)))
        return cls(tuple(steps))

    def channels(self, at: int) -> int:
        """Return how many channels there are at size ``at``."""
        return WIDTH * min(4, 1 << (len(self.steps) - 1 - at))


class Generator(nn.Module):
    """Noise ``(N, NOISE)``, with labels ``(N,)`` where there are classes, to images in -1 to 1."""

    def __init__(self, shape: tuple[int, ...], classes: int = 0) -> None:
        super().__init__()
        sides = Sides.of(*shape[1:])
        self.sides = sides.steps
        self.classes = nn.Embedding(classes, NOISE) if classes else None
        first = sides.channels(0)
        self.start = nn.Linear(2 * NOISE if classes else NOISE, first * math.prod(sides.steps[0]))
        widths = [sides.channels(at) for at in range(len(sides.steps))]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(a), nn.ReLU(), nn.Conv2d(a, b, 3, padding=1))
            for a, b in itertools.pairwise(widths)
        )
        self.end = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU(), nn.Conv2d(widths[-1], shape[0], 3, padding=1))

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return images ``(N, C, H, W)``."""
        if self.classes is not None:
            assert labels is not None
            noise = torch.cat([noise, self.classes(labels)], 1)
        values = self.start(noise).unflatten(1, (-1, *self.sides[0]))
        for block, size in zip(self.blocks, self.sides[1:], strict=True):
            values = F.interpolate(block(values), size=size)
        images: Tensor = torch.tanh(self.end(values))
        return images


class Critic(nn.Module):
    """Images, with labels where there are classes, to how real they look ``(N,)``."""

    def __init__(self, shape: tuple[int, ...], classes: int = 0) -> None:
        super().__init__()
        sides = Sides.of(*shape[1:])
        widths = [sides.channels(at) for at in reversed(range(len(sides.steps)))]
        ends = [*widths[1:], widths[-1]]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(spectral_norm(nn.Conv2d(a, b, 4, 2, 1 if min(size) > 2 else 2)), nn.LeakyReLU(0.2))
                for a, b, size in zip([shape[0], *ends[:-1]], ends, reversed(sides.steps), strict=True)
            )
        )
        with torch.no_grad():
            length = self.blocks(torch.zeros(1, *shape)).numel()
        self.end = spectral_norm(nn.Linear(length, 1))
        self.classes = spectral_norm(nn.Embedding(classes, length)) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return a score for each image; higher is more real."""
        features = self.blocks(images).flatten(1)
        score: Tensor = self.end(features).squeeze(1)
        if self.classes is not None:
            assert labels is not None
            score = score + (self.classes(labels) * features).sum(1)
        return score


def train_generator(
    images: Tensor,
    labels: Tensor | None,
    classes: int,
    steps: int,
    batch: int,
    seed: int,
    check: Callable[[int], None] = lambda step: None,
) -> Generator:
    """Return a generator of images like ``images`` ``(N, C, H, W)`` in -1 to 1.

    With ``labels`` it is one of ``classes`` classes. ``check`` is called after each step and may raise.
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        kinds = classes if labels is not None else 0
        generator, critic = Generator(tuple(images.shape[1:]), kinds), Critic(tuple(images.shape[1:]), kinds)
        for network in (generator, critic):  # convolutions in this order take a quarter less time
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        mean = copy.deepcopy(generator)
        makes = torch.optim.Adam(generator.parameters(), LEARNING_RATE / 2, (0.5, 0.99))
        judges = torch.optim.Adam(critic.parameters(), LEARNING_RATE, (0.5, 0.99))
        for step in range(steps):
            places = torch.randint(len(images), (2 * (batch // 2),))
            real, kind = images[places], labels[places] if labels is not None else None
            wanted = kind[: batch // 2].repeat(2) if kind is not None else None
            noise = torch.randn(len(places), NOISE)
            made = generator(noise, wanted)
            doubt = F.relu(1 - critic(real, kind)).mean() + F.relu(1 + critic(made.detach(), wanted)).mean()
            _descend(judges, doubt)
            with _held(critic):
                _descend(makes, DIVERSITY * _sameness(noise, made) - critic(made, wanted).mean())
            _follow(mean, generator)
            check(step + 1)
        return mean.eval()


@torch.no_grad()
def generate(generator: Generator, labels: Tensor, seed: int) -> Tensor:
    """Return one image in -1 to 1 for each of ``labels``, which matter only to a generator with classes."""
    chance = torch.Generator().manual_seed(seed)
    made = [generator(torch.randn(len(part), NOISE, generator=chance), part) for part in labels.split(256)]
    return torch.cat(made)


def _sameness(noise: Tensor, made: Tensor) -> Tensor:
    """Return how far apart noises are beside their images, the first half's against the second half's."""
    (one, other), (first, second) = noise.chunk(2), made.chunk(2)
    return F.l1_loss(one, other) / F.l1_loss(first, second).clamp_min(1e-3)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


@contextlib.contextmanager
def _held(module: nn.Module) -> Iterator[None]:
    """Pass gradients through ``module`` without computing those of its own weights, which nobody would use."""
    module.requires_grad_(False)
    yield
    module.requires_grad_(True)


@torch.no_grad()
def _follow(mean: nn.Module, now: nn.Module) -> None:
    for kept, new in zip(mean.state_dict().values(), now.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1 - KEPT)
        else:
            kept.copy_(new)
