"""One person's model, data and recipe: set the recipe, and Snapshots arrive.

Who owns what. The caller's threads (a notebook cell, comm callbacks) only exchange the wanted recipe
and read the latest Snapshot, under one condition variable; they never wait for work. One worker thread
does all of it, stage by stage, each stage published as it is ready: size and latency, then sampled
accuracy that narrows look by look, then exact. Setting a recipe raises the generation, tells the
running batch to stop, and the worker drops what is left of the old one at its next check; nothing of
an older generation is published after that. Exact figures are kept by recipe, in memory and in the
history, so that going back is free.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import warnings
from collections.abc import Callable, Iterator
from types import TracebackType

import numpy as np
from torch import nn

from workbench.compression import CompressedModel, Subject, compress_subject, context_for
from workbench.data.dataset import Dataset
from workbench.data.load import load_dataset
from workbench.errors import WorkbenchError
from workbench.evaluation import Evaluator, Logits
from workbench.history import History, HistoryError, Key, Record
from workbench.latency import LatencyEstimator
from workbench.measure.estimate import Estimate, Latency, Size
from workbench.measure.sampling import Figures, Sampler
from workbench.measure.weights import WeightSummary
from workbench.models.check import require_model
from workbench.models.layers import Layer
from workbench.models.load import load_model
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.run.runner import Runner, Stopped
from workbench.snapshot import Baseline, Snapshot
from workbench.undo import UndoPath

Listener = Callable[[Snapshot], None]

#: Compressed models kept ready, so that undo and redo show their sizes at once.
KEPT_MODELS = 8


class Superseded(Exception):
    """The recipe being worked on is no longer the wanted one."""


class Session:
    """A model and a data set under a recipe that may change at any time.

    Args:
        model: A ``Model``, an ``nn.Module``, or whatever ``load_model`` takes.
        data: A ``Dataset``, or whatever ``load_dataset`` takes.
        split: The split that figures are reported on.
        history: Where measured settings are kept; the person's own file by default.
        seed: Seed of the sample order.

    Raises:
        WorkbenchError: model and data don't fit, in one sentence.
    """

    def __init__(
        self,
        model: Model | nn.Module | str,
        data: Dataset | str,
        *,
        split: str = "test",
        history: History | str | None = None,
        seed: int = 0,
    ) -> None:
        self.model = load_model(model)
        self.data = load_dataset(data)
        self.split = self.data[split]
        if self.model.input_shape is not None:
            self.data.require_image_shape(self.model.input_shape, f"Model '{self.model.name}'")
        require_model(self.model.module, self.data.image_shape, self.data.classes)
        self.normalization = self.model.normalization or self.data.normalization
        self.subject = Subject.of(self.model, self.data.image_shape)
        self.notes: tuple[str, ...] = (*self.model.notes, *self.data.notes)
        self.history = self._open(history)
        self._seed = seed
        self._evaluator = Evaluator(self.subject, self.split, self.normalization)
        self._latency = LatencyEstimator(self.subject, self._evaluator.graph, self.data, self.normalization)
        self._sampler: Sampler | None = None
        self._partial: list[Logits] = []

        self._state = threading.Condition()
        self._engine = threading.RLock()  # held while a model is compressed: caches are shared
        self._machine = threading.Lock()  # held while time is measured: no images run meanwhile
        self._context = context_for(self.model, self.data)
        self._generation = 0
        self._recipe = Recipe()
        self._pending = False
        self._closed = False
        self._runner: Runner | None = None
        self._baseline = Baseline()
        self._snapshot = Snapshot(0, Recipe())
        self._trail: list[Snapshot] = []
        self._listeners: list[Listener] = []
        self._models: dict[str, CompressedModel] = {}
        self._exact: dict[str, Figures] = {}
        self._measured: dict[str, Latency] = {}
        self._records: dict[str, int] = {}
        self._path = UndoPath()
        self._thread = threading.Thread(target=self._work, name=f"workbench-{self.model.name}", daemon=True)
        self.apply(Recipe())
        self._thread.start()

    # What a caller may do, from any thread

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The model's layers, uncompressed, in call order."""
        return self.subject.layers

    @property
    def recipe(self) -> Recipe:
        """The recipe set last."""
        return self._recipe

    @property
    def snapshot(self) -> Snapshot:
        """The latest Snapshot."""
        return self._snapshot

    @property
    def runtime(self) -> str:
        """What runs the images: ``onnxruntime`` or ``torch``."""
        return self._evaluator.runtime

    @property
    def key(self) -> Key:
        """What this session's figures belong to in the history."""
        return Key(
            self.model.name, self.subject.hash, self.data.name, self._data_hash, self.split.name, self.runtime
        )

    def apply(self, recipe: Recipe | str) -> int:
        """Set the recipe and return its generation at once; Snapshots of it will follow."""
        recipe = Recipe.parse(recipe) if isinstance(recipe, str) else recipe
        with self._state:
            if self._closed:
                raise WorkbenchError("This session is closed; open a new one.")
            self._generation += 1
            self._recipe = recipe
            self._pending = True
            self._trail.clear()
            if self._runner is not None:
                self._runner.stop()
            self._state.notify_all()
            return self._generation

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield the Snapshots of the recipe set last, as they come, up to the settled one.

        Where another recipe is set meanwhile, its Snapshots follow.
        """
        generation, seen = -1, 0
        while True:
            with self._state:
                if generation != self._generation:
                    generation, seen = self._generation, 0
                while len(self._trail) == seen and generation == self._generation and not self._closed:
                    self._state.wait()
                if generation != self._generation:
                    continue
                fresh = self._trail[seen:]
                closed = self._closed
            yield from fresh
            seen += len(fresh)
            if closed or (fresh and fresh[-1].settled):
                return

    def measure(self, recipe: Recipe | str | None = None) -> Snapshot:
        """Set ``recipe`` (or keep the present one), wait, and return its exact Snapshot.

        Raises ``WorkbenchError`` where the recipe could not be carried out, or another one was set
        from elsewhere meanwhile.
        """
        generation = self.apply(recipe) if recipe is not None else self._generation
        with self._state:
            while self._generation == generation and not self._closed:
                if self._trail and self._trail[-1].settled:
                    snapshot = self._trail[-1]
                    if snapshot.error:
                        raise WorkbenchError(snapshot.error)
                    return snapshot
                self._state.wait()
        raise WorkbenchError("The measurement was interrupted: another recipe was set, or the session was closed.")

    def measure_latency(self) -> Latency:
        """Run the present recipe's exported model on this machine and return its latency.

        Evaluation pauses meanwhile. The figure is also published, beside the predicted one.
        """
        recipe = self._recipe
        compressed = self._compress(recipe)
        with self._machine:
            latency = self._latency.measure(compressed)
        self._measured[recipe.hash] = latency
        self.history.note_measured_latency(self.key, recipe.hash, latency.ms)
        self._refresh_latency()
        return latency

    def learn_latency(self) -> None:
        """Measure the kernels that predictions still lack on this machine, once, and wait for it."""
        self._learn_latency(lambda: self._closed)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every Snapshot, on the worker's thread; return what ends that."""
        with self._state:
            self._listeners.append(listener)

        def unsubscribe() -> None:
            with self._state:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return unsubscribe

    @property
    def compressed(self) -> CompressedModel:
        """The model under the present recipe."""
        return self._compress(self._recipe)

    def weights(self, layer: str, bins: int = 64) -> WeightSummary:
        """Return the distribution of a layer's weights before and after the present recipe."""
        return self._compress(self._recipe).summarize(layer, bins)

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier measured setting."""
        return self._path.before(self._recipe) is not None

    @property
    def can_redo(self) -> bool:
        """Whether an undone setting lies ahead."""
        return self._path.after(self._recipe) is not None

    def undo(self) -> Recipe:
        """Go back to the measured setting before the present one, and return the recipe."""
        return self._go(self._path.before(self._recipe))

    def redo(self) -> Recipe:
        """Go forward to the setting that was undone last, and return the recipe."""
        return self._go(self._path.after(self._recipe))

    def close(self) -> None:
        """Stop the worker and wait for its end; closing twice does no harm."""
        with self._state:
            self._closed = True
            if self._runner is not None:
                self._runner.stop()
            self._state.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()
        if self._own_history:
            self.history.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What the worker does

    def _work(self) -> None:
        while True:
            with self._state:
                while not self._pending and not self._closed:
                    self._state.wait()
                if self._closed:
                    return
                self._pending = False
                generation, recipe = self._generation, self._recipe
            try:
                self._serve(generation, recipe)
                self._learn_latency(lambda: self._pending or self._closed)
            except (Superseded, Stopped):
                continue
            except Exception as error:  # whatever goes wrong must reach the person as a sentence
                failed = Snapshot(generation, recipe, self._baseline, settled=True, error=sentence(error))
                with contextlib.suppress(Superseded):
                    self._publish(failed)

    def _serve(self, generation: int, recipe: Recipe) -> None:
        def check() -> None:
            if self._closed or self._generation != generation:
                raise Superseded

        compressed = self._compress(recipe, check)
        first = self._stored_figures(generation, recipe, compressed)
        self._publish(first)
        if self._sampler is None:
            self._measure_baseline(generation, first, check)
        assert self._sampler is not None
        if recipe.hash in self._exact:
            self._settle(first, self._exact[recipe.hash])
            return
        with self._engine:
            runner = self._start(self._evaluator.runner(compressed), generation)
        for figures, logits in self._looks(runner, self._sampler, check):
            if figures.accuracy.kind == "exact":
                self._keep(recipe, first, figures, logits)
                self._settle(first, figures)
            else:
                self._publish(_with(first, figures))

    def _stored_figures(self, generation: int, recipe: Recipe, compressed: CompressedModel) -> Snapshot:
        """Return what is known without running an image: size, latency, layers."""
        if self._baseline.size is None:
            plain = self._compress(Recipe())
            self._baseline = dataclasses.replace(
                self._baseline, size=self._size(plain), latency=self._latency.predict(plain)
            )
        return Snapshot(
            generation,
            recipe,
            self._baseline,
            size=self._size(compressed),
            latency=self._latency.predict(compressed),
            measured_latency=self._measured.get(recipe.hash),
            layers=compressed.layers,
            runtime=self.runtime,
            notes=(*self.notes, *compressed.notes),
        )

    def _learn_latency(self, cancelled: Callable[[], bool]) -> None:
        """Measure unknown kernels a few at a time, then predict the present recipe again."""
        while self._latency.unknown and not cancelled():
            with self._machine:
                self._latency.learn(cancelled, seconds=2)
            self._refresh_latency()

    def _refresh_latency(self) -> None:
        """Tell the listeners the present recipe's latency anew; what is predicted may have improved."""
        with self._engine:
            plain = self._latency.predict(self._compress(Recipe()))
            self._baseline = dataclasses.replace(self._baseline, latency=plain)
            recipe = self._recipe
            predicted = self._latency.predict(self._compress(recipe))
        with self._state:
            current = self._snapshot
            if current.recipe != recipe or self._closed:
                return
            current = dataclasses.replace(
                current,
                baseline=self._baseline,
                latency=predicted,
                measured_latency=self._measured.get(recipe.hash),
            )
            self._snapshot = current
            listeners = list(self._listeners)
        self._tell(listeners, current)

    def _size(self, compressed: CompressedModel) -> Size:
        archive = compressed.archive
        runtime_bytes = self._latency.runtime_bytes(compressed)
        return Size(archive.nbytes, self.subject.dense_fp32_bytes, runtime_bytes, archive.entropy_bytes)

    def _measure_baseline(self, generation: int, first: Snapshot, check: Callable[[], None]) -> None:
        """Find the dense model's logits on the whole split; interrupted, it goes on where it stopped."""
        logits = self.history.baseline_logits(self.key)
        if logits is None or len(logits) != len(self.split):
            logits = self._run_baseline(generation, first, check)
            self.history.keep_baseline_logits(self.key, logits)
        labels = self.split.labels.numpy()
        sampler = Sampler(logits, labels, seed=self._seed, split=self.split.name)
        figures = sampler.estimate(logits[sampler.order])
        self._evaluator.set_order(sampler.order)
        self._exact[Recipe().hash] = figures
        self._baseline = dataclasses.replace(
            self._baseline, accuracy=figures.accuracy, loss=figures.loss, top5=figures.top5
        )
        self._sampler = sampler
        self._keep(Recipe(), first, figures, logits[sampler.order])

    def _run_baseline(self, generation: int, first: Snapshot, check: Callable[[], None]) -> Logits:
        with self._engine:
            runner = self._start(self._evaluator.runner(self._compress(Recipe())), generation)
        done = sum(len(part) for part in self._partial)
        for logits in self._evaluator.batches(runner, done):
            self._partial.append(logits)
            done += len(logits)
            check()
            if len(self._partial) % 8 == 0:
                note = f"Measuring the baseline: {done:,} of {len(self.split):,} images."
                self._publish(dataclasses.replace(first, notes=(*first.notes, note)))
        return np.concatenate(self._partial)

    def _looks(
        self, runner: Runner, sampler: Sampler, check: Callable[[], None]
    ) -> Iterator[tuple[Figures, Logits]]:
        def check_and_give_way() -> None:
            check()
            with self._machine:  # a latency measurement that waits gets the machine for itself
                pass

        return self._evaluator.looks(runner, sampler, check_and_give_way)

    def _start(self, runner: Runner, generation: int) -> Runner:
        with self._state:
            if self._closed or self._generation != generation:
                raise Superseded
            self._runner = runner
        return runner

    def _settle(self, first: Snapshot, figures: Figures) -> None:
        self._path.visit(first.recipe)
        self._exact[first.recipe.hash] = figures
        self._publish(dataclasses.replace(_with(first, figures), baseline=self._baseline, settled=True))

    def _keep(self, recipe: Recipe, first: Snapshot, figures: Figures, logits: Logits) -> None:
        """Write a measured setting to the history; a history that can't be written is said once."""
        assert self._sampler is not None and first.size is not None
        predictions = np.empty(len(logits), np.int64)
        predictions[self._sampler.order] = logits.argmax(1)
        size = self._baseline.size if recipe == Recipe() and self._baseline.size else first.size
        latency = self._baseline.latency if recipe == Recipe() else first.latency
        record = Record(
            recipe_hash=recipe.hash,
            recipe=recipe.to_json(),
            n=figures.accuracy.n,
            accuracy=figures.accuracy.value,
            top5=figures.top5.value if figures.top5 else None,
            loss=figures.loss.value,
            agreement=figures.agreement.value,
            bytes=size.bytes,
            dense_fp32_bytes=size.dense_fp32_bytes,
            runtime_bytes=size.runtime_bytes,
            entropy_bytes=size.entropy_bytes,
            latency_ms=latency.ms if latency else None,
        )
        parent = self._records.get(self._path.current.hash) if self._path.current is not None else None
        try:
            self._records[recipe.hash] = self.history.add(self.key, record, predictions, parent)
        except Exception as error:  # a full disk must not stop the figures
            note = f"Measured settings are not being kept: {sentence(error)}"
            if note not in self.notes:
                self.notes = (*self.notes, note)

    def _compress(self, recipe: Recipe, check: Callable[[], None] = lambda: None) -> CompressedModel:
        with self._engine:
            found = self._models.pop(recipe.hash, None)
            if found is None:
                self._context.check = check
                found = compress_subject(self.subject, recipe, self._context)
            self._models[recipe.hash] = found
            while len(self._models) > KEPT_MODELS:
                self._models.pop(next(iter(self._models)))
            return found

    def _publish(self, snapshot: Snapshot) -> None:
        with self._state:
            if snapshot.generation != self._generation or self._closed:
                raise Superseded
            snapshot = dataclasses.replace(
                snapshot, measured_latency=self._measured.get(snapshot.recipe_hash, snapshot.measured_latency)
            )
            self._snapshot = snapshot
            self._trail.append(snapshot)
            listeners = list(self._listeners)
            self._state.notify_all()
        self._tell(listeners, snapshot)

    def _tell(self, listeners: list[Listener], snapshot: Snapshot) -> None:
        for listener in listeners:
            try:
                listener(snapshot)
            except Exception as error:  # one broken view must not silence the others
                warnings.warn(f"A listener of the session failed: {sentence(error)}", stacklevel=2)

    def _go(self, recipe: Recipe | None) -> Recipe:
        if recipe is not None:
            self._path.visit(recipe)
            self.apply(recipe)
        return self._recipe

    @property
    def _data_hash(self) -> str:
        return f"{self.split.hash}:{self.normalization}"

    def _open(self, history: History | str | None) -> History:
        self._own_history = not isinstance(history, History)
        if isinstance(history, History):
            return history
        try:
            return History(history)
        except HistoryError as error:
            if history is not None:
                raise
            self.notes = (*self.notes, f"Measured settings are kept for this session only: {error}")
            return History(":memory:")


def sentence(error: BaseException) -> str:
    """Return one sentence for a person; errors of the workbench already are one."""
    if isinstance(error, WorkbenchError):
        return str(error)
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"{type(error).__name__}: {text[:300]}"


def _with(snapshot: Snapshot, figures: Figures) -> Snapshot:
    return dataclasses.replace(
        snapshot, accuracy=figures.accuracy, top5=figures.top5, loss=figures.loss, agreement=figures.agreement
    )
