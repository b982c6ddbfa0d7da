"""A Session that computes nothing: it emits size, then sampled, then exact figures, on a thread.

For tests of what the views do with Snapshots, and of how many messages and bytes they send.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from workbench.compressed import LayerFigures
from workbench.data.dataset import Normalization, Split
from workbench.editing import dial_values
from workbench.errors import WorkbenchError
from workbench.history import History, Key, Record
from workbench.measure.devices import Forecast, find_target
from workbench.measure.estimate import Estimate, Latency, Size
from workbench.measure.flips import TOLD, Flip
from workbench.measure.weights import WeightSummary
from workbench.models.layers import Layer
from workbench.recipe import Recipe
from workbench.snapshot import Baseline, Foreseen, Snapshot

TOTAL = 10_000
LOOKS = (64, 128, 256, 512, 1024, 2048, 4096)
DENSE = 1_092_264
REASON = "No speed-up expected: pruned weights are masked and the kernels stay dense."


def layer(name: str, kind: str, *shape: int) -> LayerFigures:
    size = int(np.prod(shape))
    return LayerFigures(name, kind, shape, size, size * 49, 0.0, 32, size * 4)


LAYERS = (
    layer("conv1", "Conv2d", 16, 1, 3, 3),
    *(
        layer(f"stage{s}.{b}.conv{c}", "Conv2d", 8 << s, 8 << s, 3, 3)
        for s in (1, 2, 3)
        for b in (0, 1, 2)
        for c in (1, 2)
    ),
    layer("fc", "Linear", 10, 64),
)


def dense(figures: LayerFigures) -> Layer:
    weight = f"{figures.name}.weight"
    return Layer(
        figures.name, figures.type, weight, figures.shape, figures.params, figures.macs, 4 * figures.macs, (), (weight,)
    )


IMAGES = Split(
    "test",
    torch.from_numpy(np.random.default_rng(0).integers(0, 256, (TOTAL, 1, 28, 28), np.uint8)),
    torch.from_numpy(np.random.default_rng(1).integers(0, 10, TOTAL)),
)


def flips_of(recipe: Recipe) -> list[tuple[int, Flip]]:
    """Which images a recipe flips, each with its place in the sample; the dense model is always right."""
    settings = [step.settings.model_dump() for step in recipe.steps]
    share = sum(one.get("ratio", 0) * 0.05 + (32 - one.get("bits", 32)) * 0.001 for one in settings)
    rng = np.random.default_rng(int(recipe.hash, 16))
    places = np.sort(rng.choice(TOTAL, int(share * TOTAL), replace=False))
    labels = IMAGES.labels.numpy()
    return [
        (int(at), Flip(int(at), int(labels[at]), int(labels[at]), 0.6, int(labels[at] + 1) % 10, 0.5)) for at in places
    ]


def settings(recipe: Recipe, technique: str) -> dict[str, Any]:
    for step in recipe.steps:
        if step.technique == technique:
            return step.settings.model_dump()
    return {}


class FakeSession:
    """Emits one Snapshot for each ``step()``; with ``auto`` a thread steps, every ``pause`` seconds.

    The figures of ``layers``, where they are given, follow the recipe.
    """

    def __init__(
        self,
        model: Any = None,
        data: Any = None,
        *,
        auto: bool = True,
        pause: float = 0.0,
        layers: tuple[LayerFigures, ...] | None = None,
    ) -> None:
        self.notes: tuple[str, ...] = ()
        self.history_notes: tuple[str, ...] = ()
        self.crowded = False
        self._device = "this-machine"
        self.model = model or SimpleNamespace(
            name="resnet20",
            origin="zoo",
            card={},
            notes=(),
            input_shape=(1, 28, 28),
            normalization=None,
            module=nn.BatchNorm2d(16),
        )
        self.data = data or SimpleNamespace(
            name="fashion_mnist",
            image_shape=(1, 28, 28),
            splits={
                "train": range(10_000),
                "calibration": range(1_000),
                "validation": range(5_000),
                "test": range(TOTAL),
            },
            classes=tuple("abcdefghij"),
            normalization=Normalization((0.286,), (0.353,)),
            notes=(),
            source="Fashion-MNIST",
        )
        self._follow = layers is not None
        self._layers = layers or LAYERS
        self.layers = tuple(dense(figures) for figures in self._layers)
        self.compressed = SimpleNamespace(posteriors={})
        self.baseline = Baseline(
            Estimate.exact(0.931, TOTAL, "test"),
            Size(DENSE + 9_000, DENSE, 1_098_000, 980_000),
            Latency("this machine", "onnxruntime", 1, 0.95, 0.92, 0.99, "measured"),
        )
        self.split = IMAGES
        self.key = self.place = Key("resnet20", "m", "fashion_mnist", "d", "test", "onnxruntime")
        self.keys = (self.key,)
        self.ahead: dict[str, Foreseen] = {}
        self.has_looked = threading.Event()
        self.is_written = True
        self.history = History(":memory:")
        self._listeners: list[Callable[[Snapshot], None]] = []
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._pause, self._closed = pause, False
        self.applied: list[Recipe] = []
        self.recipe = Recipe()
        self._pending = self._course(0, self.recipe)
        self.snapshot = self._pending.pop(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        if auto:
            self._thread.start()

    def look_ahead(self, groups: Any, told: Callable[[], None]) -> None:
        """Find everything at once, group by group; the figures are made of the recipe's hash."""
        for group in groups:
            for recipe in group():
                number = int(recipe.hash[:5], 16)
                score = Estimate(number / 2**20, number / 2**21, 1.0, LOOKS[0], "sampled", "test")
                self.ahead[recipe.hash] = Foreseen(Size(number, DENSE, None, 7), score, 0.5)
            told()
        self.has_looked.set()

    def foreseen(self, recipe: Recipe | str) -> Foreseen | None:
        return self.ahead.get(recipe if isinstance(recipe, str) else recipe.hash)

    def apply(self, recipe: Recipe) -> int:
        with self._wake:
            self.applied.append(recipe)
            self.recipe = recipe
            generation = self.snapshot.generation + 1 if not self._pending else self._pending[0].generation + 1
            self._pending = self._course(generation, recipe)
            self._wake.notify_all()
            return generation

    def subscribe(self, callback: Callable[[Snapshot], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    def step(self) -> bool:
        """Emit the next Snapshot; return whether there was one."""
        with self._lock:
            if not self._pending:
                return False
            self.snapshot = self._pending.pop(0)
        if self.snapshot.settled and self.snapshot.accuracy is not None:
            self._keep(self.snapshot)
        for callback in list(self._listeners):
            callback(self.snapshot)
        return True

    def on_close(self, end: Callable[[], None]) -> None:
        """Nothing outlives a test."""

    def key_of(self, recipe: Recipe) -> Key:
        return self.key

    def records(self, after: int = 0) -> list[Record]:
        return self.history.records(self.key, after)

    def answers(self, recipe: Recipe) -> np.ndarray[Any, Any]:
        """Every image's answer; the dense model is always right."""
        answers = IMAGES.labels.numpy().copy()
        for _, flip in flips_of(recipe):
            answers[flip.image] = flip.after
        return answers

    def answer(self, image: torch.Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The dense model sees the mean grey value's class, the compressed one the class after it."""
        shares = np.full(10, 0.05, np.float32)
        seen = int(image.float().mean() / 25.6) % 10
        dense, compressed = shares.copy(), shares.copy()
        dense[seen] = compressed[(seen + 1) % 10 if self.recipe else seen] = 0.55
        return dense, compressed

    def _keep(self, snapshot: Snapshot) -> None:
        recipe, size, latency = snapshot.recipe, snapshot.size, snapshot.latency
        predictions = self.answers(recipe)
        record = Record(
            recipe.hash, recipe.to_json(), TOTAL, snapshot.accuracy.value, None, 0.2, 0.95, size.bytes, DENSE,
            size.runtime_bytes, size.entropy_bytes, latency.ms,
        )  # fmt: skip
        self.history.add(self.key, record, predictions, None)

    def fail(self, sentence: str) -> None:
        """Emit a Snapshot that carries an error."""
        self.snapshot = replace(self.snapshot, error=sentence, settled=True)
        for callback in list(self._listeners):
            callback(self.snapshot)

    def measure_latency(self) -> Latency:
        assert self.snapshot.latency is not None
        measured = replace(self.snapshot.latency, ms=0.91, low=0.9, high=0.93, kind="measured", reason="")
        self.snapshot = replace(self.snapshot, measured_latency=measured)
        for callback in list(self._listeners):
            callback(self.snapshot)
        return measured

    @property
    def device(self) -> str:
        return self._device

    def use_device(self, name: str) -> None:
        if name != "this-machine":
            find_target(name)
        self._device = name
        for callback in list(self._listeners):
            callback(self.snapshot)

    def on_device(self, recipe: Recipe) -> tuple[Forecast, None] | None:
        return None if self.device == "this-machine" else (Forecast(0.5, 0.4, 0.65), None)

    def weights(self, layer_name: str, bins: int = 64) -> WeightSummary:
        if layer_name not in {layer.name for layer in LAYERS}:
            raise WorkbenchError(f"There is no layer '{layer_name}'.")
        values = np.random.default_rng(len(layer_name)).laplace(0, 0.05, 4_000).astype(np.float32)
        prune, quantize = settings(self.recipe, "prune"), settings(self.recipe, "quantize")
        after, threshold, grid = values.copy(), None, np.zeros(0, np.float32)
        if prune:
            threshold = float(np.quantile(abs(values), prune["ratio"]))
            after[abs(after) <= threshold] = 0
        if quantize.get("bits", 32) <= 8:
            step = 2 * float(abs(values).max()) / (2 ** quantize["bits"])
            half = 2 ** (quantize["bits"] - 1)
            after = (np.clip(np.round(after / step), -half, half - 1) * step).astype(np.float32)
            grid = np.unique(after).astype(np.float32)
        edges = np.linspace(values.min(), values.max(), bins + 1, dtype=np.float32)
        return WeightSummary(
            layer_name, edges, np.histogram(values, edges)[0],
            np.histogram(after[after != 0] if prune else after, edges)[0], threshold, grid,
            float((after == 0).mean()), quantize.get("bits", 32),
        )  # fmt: skip

    def time_shares(self) -> dict[str, float]:
        total = sum(layer.macs for layer in self.layers)
        return {layer.weight: layer.macs / total for layer in self.layers if layer.type == "Conv2d"}

    @property
    def can_undo(self) -> bool:
        return len(self.applied) > 1

    @property
    def can_redo(self) -> bool:
        return False

    def undo(self) -> None:
        self.applied.pop()
        self.apply(self.applied.pop())

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._pending)
                if self._closed:
                    return
            if self._pause:
                threading.Event().wait(self._pause)
            self.step()

    def _course(self, generation: int, recipe: Recipe) -> list[Snapshot]:
        prune, quantize = settings(recipe, "prune"), settings(recipe, "quantize")
        ratio = prune.get("ratio", 0.0)
        bits = quantize.get("bits", 32)
        accuracy = 0.931 - 0.3 * ratio**4 - 0.4 * 2.0**-bits * 2
        size = int(DENSE * max(0.02, (1 - ratio) * bits / 32 + 0.01))
        first = Snapshot(
            generation, recipe, self.baseline, size=Size(size, DENSE, DENSE, int(size * 0.9)),
            layers=self._figures(recipe),
            runtime="onnxruntime",
            latency=Latency("this machine", "onnxruntime", 1, 0.95, 0.9, 1.0, "predicted", REASON),
        )  # fmt: skip
        flips = flips_of(recipe)

        def look(n: int) -> Snapshot:
            half = 0.4 / n**0.5
            seen = tuple(flip for place, flip in flips if place < n)[:TOLD]
            sampled = Estimate(accuracy, accuracy - half, accuracy + half, n, "sampled", "test")
            agreement = replace(sampled, value=1 - len(flips) / TOTAL)
            return replace(first, accuracy=sampled, agreement=agreement, flips=seen)

        last = replace(look(TOTAL), accuracy=Estimate.exact(accuracy, TOTAL, "test"), settled=True)
        return [first, *map(look, LOOKS), last]

    def _figures(self, recipe: Recipe) -> tuple[LayerFigures, ...]:
        if not self._follow:
            return self._layers
        names = [layer.name for layer in self._layers]
        ratios, bits = dial_values(recipe, "prune", names), dial_values(recipe, "quantize", names)
        return tuple(
            replace(
                layer,
                sparsity=ratios[layer.name].value,
                bits=int(bits[layer.name].value),
                bytes=int(layer.params * (1 - ratios[layer.name].value) * bits[layer.name].value / 8) + 20,
            )
            for layer in self._layers
        )
