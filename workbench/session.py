"""One person's model, data and recipe: set the recipe, and Snapshots arrive.

Who owns what. The caller's threads (a notebook cell, comm callbacks) only exchange the wanted recipe
and read the latest Snapshot, under the bulletin's condition variable; they never wait for work, which the
Workers' threads do. Setting a recipe raises the generation and tells the running batch to stop; the workers drop
what is left of the old recipe at their next check, and nothing of an older generation is published after that.
Exact figures are kept by recipe, in memory and in the history, so that going back is free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.bulletin import Bulletin, Listener
from workbench.compressed import CompressedModel
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.engine import Engine, Surrogate
from workbench.footing import Footing
from workbench.history import History, HistoryError, Key, Record, of_others
from workbench.measure.estimate import Latency
from workbench.measure.weights import WeightSummary
from workbench.models.check import numbered_classes, require_model
from workbench.models.layers import Layer
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.run import garbage
from workbench.run.runner import Runner
from workbench.snapshot import Foreseen, Snapshot
from workbench.subject import Subject
from workbench.undo import UndoPath
from workbench.workers import Workers

if TYPE_CHECKING:
    from workbench.measure.devices import Energy, Target
    from workbench.measure.devices.calibrate import Forecast
    from workbench.measure.devices.reasons import Change
    from workbench.measure.devices.roofline import Dtype
    from workbench.measure.devices.work import Work
    from workbench.run.onnx_graph import OnnxGraph


class Session:
    """A model and a data set under a recipe that may change at any time.

    Args:
        model: A ``Model``, an ``nn.Module``, or whatever ``load_model`` takes.
        data: A ``Dataset``, or whatever ``load_dataset`` takes.
        split: The split that figures are reported on.
        history: Where measured settings are kept; the person's own file by default.
        seed: Seed of the sample order.
        device: For which latency is predicted: "this-machine", a described device's name, or its file.

    Raises:
        WorkbenchError: there is no such device, or model and data don't fit, in one sentence.
    """

    def __init__(
        self,
        model: Model | nn.Module | str,
        data: Dataset | str,
        *,
        split: str = "test",
        history: History | str | None = None,
        seed: int = 0,
        device: str | Target = "this-machine",
    ) -> None:
        target = _target(device)
        self.model = load_model(model)
        self.data = load_dataset(data).in_order(self.model.classes)
        self.split = self.data[split]
        if self.model.input_shape is not None:
            self.data.require_image_shape(self.model.input_shape, f"Model '{self.model.name}'")
        require_model(self.model.module, self.data.image_shape, self.data.classes or None)
        if not self.data.classes:  # nothing is labelled, so that only the model tells how many there are
            self.data = replace(self.data, classes=numbered_classes(self.model.module, self.data.image_shape))
        self.normalization = self.model.normalization or self.data.normalization
        self._own_history = not isinstance(history, History)
        self.history, trouble = _open(history)
        self._engine = Engine(self.model, self.data, split, self.history, seed)
        if isinstance(history, (str, Path)) and (others := of_others(self.history, self._engine.keys.place)):
            trouble = (*trouble, others)
        self._engine.notes += trouble
        self.history_notes = trouble  # what is to be said of its state, such as that it is read-only
        self._engine.latencies.target = target
        self._path = UndoPath()
        self._bulletin = Bulletin()
        self._state = self._bulletin.changed
        self._closing: list[Callable[[], None]] = []
        self._workers = Workers(self._engine, self._bulletin, self._path)
        garbage.hold()
        self.apply(Recipe())
        self._workers.start()

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The model's layers, uncompressed, in call order."""
        return self._engine.subject.layers

    @property
    def subject(self) -> Subject:
        """The model on this kind of image, before any recipe."""
        return self._engine.subject

    @property
    def recipe(self) -> Recipe:
        """The recipe set last."""
        return self._bulletin.recipe

    @property
    def snapshot(self) -> Snapshot:
        """The latest Snapshot."""
        return self._bulletin.snapshot

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about the model, the data and the history, for the person."""
        return self._engine.notes

    @property
    def runtime(self) -> str:
        """What runs the images: ``onnxruntime`` or ``torch``; waits until the model was written as a graph."""
        return self._engine.runtime

    @property
    def key(self) -> Key:
        """What this session's figures belong to in the history; waits as ``runtime`` does."""
        return self._engine.keys.main

    def key_of(self, recipe: Recipe) -> Key:
        """Return what the figures of ``recipe`` belong to in the history; waits as ``runtime`` does.

        Those of a recipe that calibrates or trains belong to the images that it learns from as well.
        """
        return self._engine.keys.of(recipe)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every key that recipes have here: the ``key``, and that of those that learn, where it is another."""
        return self._engine.keys.all

    @property
    def is_written(self) -> bool:
        """Whether ``runtime`` and ``key`` are known, so that nobody waits for them."""
        return self._engine.is_written

    @property
    def place(self) -> Key:
        """The ``key`` but for its runtime: known at once."""
        return self._engine.keys.place

    @property
    def compressed(self) -> CompressedModel:
        """The model under the present recipe."""
        return self._engine.compress(self.recipe)

    def compress(self, recipe: Recipe) -> CompressedModel:
        """Return the model under ``recipe``, whichever is set; the last few are kept ready."""
        return self._engine.compress(recipe)

    def apply(self, recipe: Recipe | str | list[Any]) -> int:
        """Set the recipe and return its generation at once; Snapshots of it will follow."""
        recipe = recipe if isinstance(recipe, Recipe) else Recipe.parse(recipe)
        with self._state:
            generation = self._bulletin.begin(recipe)
            self._workers.wake()
            self._engine.stop()
            self._engine.courtesy.hurry()
            return generation

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield the Snapshots of the recipe set last, as they come, up to the settled one.

        Where another recipe is set meanwhile, its Snapshots follow.
        """
        return self._bulletin.follow()

    def measure(self, recipe: Recipe | str | list[Any] | None = None) -> Snapshot:
        """Set ``recipe`` (or keep the present one), wait, and return its exact Snapshot.

        Raises ``WorkbenchError`` where the recipe could not be carried out, or another one was set
        from elsewhere meanwhile.
        """
        generation = self.apply(recipe) if recipe is not None else self._bulletin.generation
        return self._bulletin.wait_settled(generation)

    def measure_latency(self) -> Latency:
        """Run the present recipe's exported model on this machine and return its latency.

        Evaluation pauses meanwhile. The figure is also published, beside the predicted one.
        """
        latency = self._engine.measure_latency(self.recipe)
        self._workers.refresh_latency()
        return latency

    @property
    def device(self) -> str:
        """The device that latency is predicted for: "this-machine", or a described one's name."""
        return self._engine.latencies.target.name if self._engine.latencies.target else "this-machine"

    def use_device(self, device: str | Target) -> None:
        """Predict latency for this machine, a described device or a file of one; what is shown follows.

        Raises ``WorkbenchError`` where there is no such device, or its file is broken.
        """
        before, self._engine.latencies.target = self._engine.latencies.target, _target(device)
        try:
            self._workers.refresh_latency()
        except Exception:
            self._engine.latencies.target = before
            raise
        while self._engine.latencies.are_of_another(self.snapshot) and not self.closed:  # one was published meanwhile
            self._workers.refresh_latency()

    def work(self, recipe: Recipe) -> tuple[Work, Dtype]:
        """Return what a described device would have to do for one image under ``recipe``, and in which number type.

        Raises ``WorkbenchError`` where the model doesn't export.
        """
        return self._engine.latencies.work(recipe)

    def change(self, recipe: Recipe) -> Change:
        """Return what ``recipe`` did to the network, as described devices see it: what was and what is to be done.

        Raises ``WorkbenchError`` where the model doesn't export.
        """
        return self._engine.latencies.change(recipe)

    def on_device(self, recipe: Recipe | None = None) -> tuple[Forecast, Energy | None] | None:
        """Return the recipe's time on the described device ÷ the baseline's, and the energy of an image there.

        None where the device is this machine, or the model doesn't export.
        """
        return self._engine.latencies.on_target(self.recipe if recipe is None else recipe)

    def prepare(self) -> None:
        """Find now what first moves of a slider would wait for, rather than in the session's next quiet moments."""
        self._engine.prepare(lambda: True)
        self.learn_latency()

    def learn_latency(self) -> None:
        """Measure the kernels that predictions still lack on this machine, and wait for it."""
        for _ in self._engine.latencies.learn(lambda: self.closed):
            self._workers.refresh_latency()

    def look_ahead(self, groups: Sequence[Callable[[], Iterable[Recipe]]], told: Callable[[], None]) -> None:
        """Find the figures of recipes that may come next in the session's quiet moments, one group after the other.

        What cannot be carried out, or learns from data, is left out. ``told`` is called, on a worker's thread, once
        what earlier sessions found of the first group was looked up, then of the others, and then whenever one more
        group is done; ``foreseen`` tells what is known. The groups, which are asked for their recipes on that thread
        too, replace what was wanted before.
        """
        self._workers.look_ahead(groups, told)

    def foreseen(self, recipe: Recipe | str) -> Foreseen | None:
        """Return the figures of a recipe, or of that with this hash, where ``look_ahead`` found them; else None."""
        return self._engine.foreseen(recipe if isinstance(recipe, str) else recipe.hash)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every Snapshot, in order, on a worker's thread; return what ends that."""
        return self._bulletin.subscribe(listener)

    def weights(self, layer: str, bins: int = 64) -> WeightSummary:
        """Return the distribution of a layer's weights before and after the present recipe."""
        return self.compressed.summarize(layer, bins)

    def time_shares(self) -> dict[str, float]:
        """Return weight name → share of the predicted time, for weights with a kernel of their own."""
        return self._engine.time_shares(self.recipe)

    def records(self, after: int = 0) -> list[Record]:
        """Return every setting measured with this model on this split, oldest first.

        What calibrated or trained on other images than this session's data is left out.
        With ``after``, only the records with a larger id.
        """
        return self._engine.keys.records(self.history, after)

    def answer(self, image: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return class probabilities ``(classes,)`` for one image, by the dense and by the compressed model.

        ``image`` ``(C, H, W)`` is of the data set's shape: ``uint8``, or floats on the data set's own scale.
        """
        return self._engine.answer(self.recipe, image)

    def logits(self, recipe: Recipe) -> NDArray[np.float32] | None:
        """Return the logits ``(N, classes)`` of a setting on the whole split, in its order.

        None where it was not measured lately: the last few settings are kept, and the dense model.
        """
        return self._engine.logits(recipe)

    def keep_logits(self, recipe: Recipe, logits: NDArray[np.float32]) -> None:
        """Keep the logits ``(N, classes)`` of a setting that were computed outside, for ``logits``."""
        self._engine.keep_logits(recipe, logits)

    def answers(self, recipe: Recipe) -> NDArray[np.integer[Any]] | None:
        """Return each image's answer ``(N,)`` under a setting measured now or in an earlier session, or None."""
        return self._engine.answers(recipe)

    def runner(self, recipe: Recipe) -> Runner:
        """Return what computes logits of normalised images under ``recipe``, for work on another thread."""
        return self._engine.runner(recipe)

    def onnx_file(self, recipe: Recipe | None = None) -> bytes:
        """Return the ONNX file that a runtime would load for ``recipe``, by default the present one.

        Raises ``WorkbenchError`` where the model cannot be written as ONNX.
        """
        return self._engine.latencies.file(self.recipe if recipe is None else recipe)

    def graph(self, recipe: Recipe) -> OnnxGraph | None:
        """Return the ONNX graph of the model's structure under ``recipe``, None where it cannot be written as ONNX."""
        return self._engine.graph(recipe)

    def foresee(self, surrogate: Surrogate | None) -> None:
        """Let ``surrogate`` predict the accuracy of recipes from now on, before an image is run."""
        self._engine.surrogate = surrogate

    def footing(self, check: Callable[[], None] = lambda: None) -> Footing:
        """Return what work in the background needs to run images as this session does.

        ``check`` raises when the work is no longer wanted. Raises ``WorkbenchError`` before the dense model's
        figures are known; after ``give_way`` they are.
        """
        return self._engine.footing(check)

    def give_way(self, cancelled: Callable[[], bool]) -> None:
        """Wait until the present recipe has settled and nothing is being timed: for work in the background."""
        with self._state:
            while not self._bulletin.is_settled and not self.closed and not cancelled():
                self._state.wait(0.1)
        self._engine.courtesy.give_way()
        self._engine.latencies.wait()

    @property
    def crowded(self) -> bool:
        """Whether someone waits for a first figure in another process of this machine: what can wait should."""
        return self._engine.courtesy.wanted

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self._bulletin.closed

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier measured setting."""
        return self._path.before(self.recipe) is not None

    @property
    def can_redo(self) -> bool:
        """Whether an undone setting lies ahead."""
        return self._path.after(self.recipe) is not None

    def undo(self) -> Recipe:
        """Go back to the measured setting before the present one, and return the recipe."""
        return self._go(self._path.before(self.recipe))

    def redo(self) -> Recipe:
        """Go forward to the setting that was undone last, and return the recipe."""
        return self._go(self._path.after(self.recipe))

    def on_close(self, end: Callable[[], None]) -> None:
        """Call ``end`` when the session is closed: what runs for it elsewhere would go on for nobody."""
        self._closing.append(end)

    def close(self) -> None:
        """Stop the workers and wait for their end; closing twice does no harm."""
        if self._workers.cancel():
            garbage.release()
        for end in self._closing:
            end()
        self._workers.join()
        self._engine.foresight.close()
        if self._own_history:
            self.history.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _go(self, recipe: Recipe | None) -> Recipe:
        if recipe is not None:
            self._path.visit(recipe)
            self.apply(recipe)
        return self.recipe


def _open(history: History | str | None) -> tuple[History, tuple[str, ...]]:
    """Open the history; where the person's own cannot be, keep settings for this session only."""
    if isinstance(history, History):
        return history, history.notes
    try:
        opened = History(history)
        return opened, opened.notes
    except HistoryError as error:
        if history is not None:
            raise
        return History(":memory:"), (f"Measured settings are kept for this session only: {error}",)


def _target(device: str | Target) -> Target | None:
    """Return the described device, None for this machine."""
    if not isinstance(device, str):
        return device
    if device == "this-machine":
        return None
    from workbench.measure.devices import find_target

    return find_target(device)
