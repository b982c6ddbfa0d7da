"""Train the zoo's checkpoints: ``python -m workbench.train.zoo resnet20 [--epochs N] [--out DIR]``.

Every model is trained on the 55,000 training images of Fashion-MNIST that are in neither the
validation nor the test split, with SGD and Nesterov momentum (squeezenet, vit and lstm: AdamW), a
one-cycle schedule, random crops and horizontal flips. The last epoch's weights are kept; nothing is
chosen on the test split, which is read once, at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.data.dataset import Split
from workbench.data.fashion_mnist import NORMALIZATION, load_full
from workbench.models.zoo import ARCHITECTURES, CHECKPOINTS


@dataclass(frozen=True)
class Schedule:
    """How one checkpoint is trained."""

    epochs: int
    learning_rate: float
    batch: int = 64
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop_padding: int = 2
    seed: int = 0
    optimizer: Literal["sgd", "adamw"] = "sgd"


SCHEDULES = {
    "lenet300": Schedule(epochs=30, learning_rate=0.1, weight_decay=1e-4, crop_padding=0),
    "lenet5": Schedule(epochs=25, learning_rate=0.03, crop_padding=1),
    "resnet20": Schedule(epochs=16, learning_rate=0.15),
    "mobilenetv2": Schedule(epochs=16, learning_rate=0.15, weight_decay=2e-4),
    "shufflenetv2": Schedule(epochs=12, learning_rate=0.15, weight_decay=2e-4),
    "squeezenet": Schedule(
        epochs=12, learning_rate=3e-3, batch=128, weight_decay=0.01, crop_padding=1, optimizer="adamw"
    ),
    "vit": Schedule(epochs=14, learning_rate=2e-3, weight_decay=0.05, crop_padding=1, optimizer="adamw"),
    "lstm": Schedule(epochs=10, learning_rate=5e-3, weight_decay=0.01, crop_padding=0, optimizer="adamw"),
}


def train(name: str, schedule: Schedule) -> tuple[nn.Module, list[dict[str, float]]]:
    """Return the trained model and one record an epoch: loss, validation accuracy, seconds."""
    torch.manual_seed(schedule.seed)
    data = load_full()
    model = ARCHITECTURES[name]().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = _optimizer(model, schedule)
    steps = len(data["train"]) // schedule.batch
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, schedule.learning_rate, schedule.epochs * steps, pct_start=0.2
    )
    curve = []
    for epoch in range(schedule.epochs):
        start = time.perf_counter()
        model.train()
        total = 0.0
        for images, labels in _batches(data["train"], schedule):
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        record = {
            "epoch": epoch + 1,
            "loss": round(total / steps, 4),
            "validation_accuracy": accuracy(model, data["validation"]),
            "seconds": round(time.perf_counter() - start, 1),
        }
        curve.append(record)
        print(name, record, flush=True)
    return model, curve


def _optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.Optimizer:
    if schedule.optimizer == "adamw":
        return torch.optim.AdamW(model.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay)
    return torch.optim.SGD(
        model.parameters(),
        schedule.learning_rate,
        schedule.momentum,
        weight_decay=schedule.weight_decay,
        nesterov=True,
    )


@torch.inference_mode()
def accuracy(model: nn.Module, split: Split) -> float:
    """Return the share of ``split`` that ``model`` classifies correctly."""
    model.eval()
    batches = zip(split.images.split(250), split.labels.split(250), strict=True)
    correct = sum(int((model(NORMALIZATION(images)).argmax(1) == labels).sum()) for images, labels in batches)
    return correct / len(split)


def save(name: str, model: nn.Module, schedule: Schedule, curve: list[dict[str, float]], folder: Path) -> None:
    """Write ``NAME.safetensors`` and its card ``NAME.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    card = {
        "name": name,
        "architecture": type(model).__name__,
        "dataset": "fashion_mnist",
        "normalization": asdict(NORMALIZATION),
        "test_accuracy": accuracy(model, load_full()["test"]),
        "test_images": 10_000,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "command": f"python -m workbench.train.zoo {name}",
        "recipe": asdict(schedule),
        "trained_on": "55,000 training images; neither the 5,000 validation nor the 10,000 test images",
        "seconds": round(sum(record["seconds"] for record in curve)),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "curve": curve,
    }
    (folder / f"{name}.json").write_text(json.dumps(card, indent=1) + "\n")
    print(f"{name}: {card['test_accuracy']:.2%} on the test split, written to {path}")


def _batches(split: Split, schedule: Schedule) -> Iterator[tuple[Tensor, Tensor]]:
    order = torch.randperm(len(split))
    for start in range(0, len(split) - schedule.batch + 1, schedule.batch):
        index = order[start : start + schedule.batch]
        images = NORMALIZATION(split.images[index])
        yield _augment(images, schedule.crop_padding), split.labels[index]


def _augment(images: Tensor, padding: int) -> Tensor:
    """Flip half of the images and crop each at its own offset out of its padded self."""
    count, _, height, width = images.shape
    flipped = torch.where(torch.rand(count, 1, 1, 1) < 0.5, images.flip(3), images)
    if padding == 0:
        return flipped
    padded = F.pad(flipped, (padding,) * 4, value=float(images.min()))
    rows = torch.randint(0, 2 * padding + 1, (count, 1, 1)) + torch.arange(height).view(1, -1, 1)
    columns = torch.randint(0, 2 * padding + 1, (count, 1, 1)) + torch.arange(width).view(1, 1, -1)
    return padded[torch.arange(count).view(-1, 1, 1), :, rows, columns].permute(0, 3, 1, 2)


def main() -> None:
    """Train the model named on the command line and save it."""
    parser = argparse.ArgumentParser(description="Train one checkpoint of the zoo.")
    parser.add_argument("name", choices=sorted(SCHEDULES))
    parser.add_argument("--epochs", type=int, help="default: the schedule of the model")
    parser.add_argument("--out", type=Path, default=CHECKPOINTS)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    schedule = SCHEDULES[options.name]
    if options.epochs:
        schedule = Schedule(**{**asdict(schedule), "epochs": options.epochs})
    model, curve = train(options.name, schedule)
    save(options.name, model, schedule, curve, options.out)


if __name__ == "__main__":
    main()
