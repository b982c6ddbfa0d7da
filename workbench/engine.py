"""The work behind a Session: from a recipe to its Snapshots, with everything worth keeping kept.

An Engine has no thread of its own. ``outline`` finds what needs no image; ``measure`` does the rest stage
by stage, yielding each as it is ready. Both ask ``check`` often whether the result is still wanted, and
what they learn on the way (compressed models, baseline logits, exact figures) stays for the next recipe.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.bulletin import Superseded
from workbench.compressed import CompressedModel
from workbench.compression import compress_subject, context_for
from workbench.data.alone import alone
from workbench.data.dataset import Dataset
from workbench.errors import WorkbenchError
from workbench.evaluation import Evaluator, Logits
from workbench.footing import Footing
from workbench.foresight import Foresight
from workbench.glimpse import Glimpses
from workbench.history import History
from workbench.kept import Kept, owner_of
from workbench.keys import Keys
from workbench.latencies import Latencies
from workbench.latency import LatencyEstimator
from workbench.measure.estimate import Estimate, Kind, Latency, Size
from workbench.measure.flips import Flip, FlipFinder
from workbench.measure.sampling import Figures, Sampler
from workbench.models.model import Model
from workbench.recipe import Recipe
from workbench.rehearsal import WHOLE, Rehearsal
from workbench.remembered import Remembered
from workbench.run.courtesy import Courtesy
from workbench.run.one_thread import one_openmp_thread
from workbench.run.onnx_graph import OnnxGraph
from workbench.run.runner import Runner, Stopped
from workbench.snapshot import Baseline, Foreseen, Snapshot
from workbench.subject import Subject
from workbench.techniques import Cost
from workbench.techniques.order import remarks_on

#: Layers from which on sizes do not wait while the model is written as a graph: that takes seconds. Of others it is
#: written when a Session opens: their first figures come together, and PyTorch's exporter, which is not made for
#: several threads, is done when the caller goes on.
DEEP = 100
#: Compressed models kept ready, so that undo and redo show their sizes at once.
KEPT_MODELS = 8

#: What is told of a model whose figures chance decides.
RANDOM = (
    "This model answers the same images differently each time, so that no figure of it is exact: turn off what is "
    "random in its forward, such as F.dropout without training=self.training."
)

Check = Callable[[], None]
#: Foresees a compressed model's accuracy without running an image; None where it cannot say.
Surrogate = Callable[[CompressedModel], Estimate | None]
#: Yields Snapshots on the way, returns the exact figures and the logits of the whole split.
Evaluation = Generator[Snapshot, None, tuple[Figures, Logits]]


class Engine:
    """Measures recipes for one model on one split of one data set.

    ``outline`` is called from one thread and ``measure`` from one, which may be another; everything else from any.
    """

    def __init__(
        self,
        model: Model,
        data: Dataset,
        split: str,
        history: History,
        seed: int = 0,
        sibling: Footing | None = None,
    ) -> None:
        """``sibling`` is the footing of another engine for the same model, whose subject and graph are shared."""
        self._data = data
        self.subject = Subject.of(model, data.image_shape) if sibling is None else sibling.subject
        self.split = data[split]
        self.history = history
        self.notes: tuple[str, ...] = (*model.notes, *data.notes)
        self.baseline = Baseline()
        self._normalization = normalization = model.normalization or data.normalization
        self._seed = seed
        self._evaluator = Evaluator(self.subject, self.split, normalization, sibling.graph if sibling else None)
        if not self.is_deep:
            self._evaluator.graphs.find()
        self._latency = LatencyEstimator(self.subject, self._evaluator.graphs, data, normalization)
        self.keys = Keys(self.subject, data, split, normalization, lambda: self.runtime)
        self._remembered = Remembered(history, self.keys.of, len(self.split), split, self.note)
        self._context = context_for(model, data)
        whole = WHOLE if self.is_deep else ()
        self._rehearsal = Rehearsal(self.subject, self._context, self._latency.read, whole)
        self._compressing = threading.RLock()  # the context's caches are shared
        self._glimpses = Glimpses(
            self._evaluator,
            self._context,
            self._compressing,
            size=lambda compressed: self._size(compressed, self.is_written),
            sampler=lambda: None if self.is_deep else self._sampler,
        )
        self.foresight = Foresight(self._glimpses.find, self._kept, self._glimpses.sees)
        self._locks = None if history.path == ":memory:" else Path(history.path).parent / "locks"
        self.courtesy = Courtesy(self._locks and self._locks / "waiting")
        timing = threading.Lock() if sibling is None else sibling.timing
        self.latencies = Latencies(self._latency, self.compress, self.courtesy, timing)
        self._telling = threading.Lock()  # of the baseline's figures, which come from two threads
        self.surrogate: Surrogate | None = None
        self._sampler: Sampler | None = None
        self._finder: FlipFinder | None = None
        self._partial: list[Logits] = []
        self._models: dict[str, CompressedModel] = {}
        self._runner: Runner | None = None
        self._is_complete = False  # whether the baseline's size and latency are all there

    @property
    def is_written(self) -> bool:
        """Whether the model was written as a graph, or found to have none: ``runtime`` is not waited for any more."""
        return self._evaluator.graphs.are_known

    @property
    def is_deep(self) -> bool:
        """Whether the model has so many layers that what is done for each of them is felt."""
        return len(self.subject.layers) >= DEEP

    def takes_long(self, recipe: Recipe) -> bool:
        """Whether measuring ``recipe`` begins with what takes long and can't be given up: the model is deep."""
        unknown = self.is_deep and self._remembered.figures(recipe) is None
        return unknown or not self.is_written

    @property
    def runtime(self) -> str:
        """What runs the images; the first to ask waits while the model is written as a graph."""
        return self._evaluator.runtime

    def compress(self, recipe: Recipe, check: Check = lambda: None) -> CompressedModel:
        """Return the model under ``recipe``; the last few are kept."""
        with self._compressing:
            found = self._models.pop(recipe.hash, None)
            # one more until it is asked for again: a size does not wait while another model's memory is freed
            most = KEPT_MODELS + (found is None)
            if found is None:
                self._context.check = check
                # what runs no image is too small to be shared out among threads
                with one_openmp_thread() if recipe.cost is Cost.LIVE else nullcontext():
                    found = compress_subject(self.subject, recipe, self._context)
            self._models[recipe.hash] = found
            while len(self._models) > most:
                self._models.pop(next(iter(self._models)))
            return found

    def sketch(self, generation: int, recipe: Recipe, check: Check) -> Snapshot:
        """Return the size alone: what else ``outline`` tells takes long enough to be felt where a model is deep."""
        known = self.foreseen(recipe.hash)
        if known is not None:
            return Snapshot(generation, recipe, self.baseline, size=known.size)
        compressed = self.compress(recipe, check)
        size, notes = self._size(compressed, whole=False), self._notes(compressed)
        return Snapshot(generation, recipe, self.baseline, size=size, notes=notes)

    def outline(self, generation: int, recipe: Recipe, check: Check) -> Snapshot:
        """Return what is known of ``recipe`` without running an image: size, latency, layers.

        Of a deep model that has not been written as a graph yet nothing waits for that: the size of the file that a
        runtime would load, the latency and the runtime follow with ``measure``.
        """
        compressed = self.compress(recipe, check)
        whole = self.is_written
        if self.baseline.size is None:
            self._outline_baseline(whole)
        return Snapshot(
            generation,
            recipe,
            self.baseline,
            size=self._size(compressed, whole),
            latency=self._latency.predict(compressed) if whole else None,
            measured_latency=self.latencies.measured(recipe),
            predicted=self.surrogate(compressed) if self.surrogate else None,
            layers=compressed.layers,
            runtime=self.runtime if whole else "",
            notes=self._notes(compressed),
        )

    def _outline_baseline(self, whole: bool) -> None:
        plain = self.compress(Recipe())
        latency = self._latency.predict(plain) if whole else None
        self._tell_baseline(size=self._size(plain, whole), latency=latency)
        self._is_complete = whole

    def _tell_baseline(self, **figures: Any) -> None:
        with self._telling:
            self.baseline = dataclasses.replace(self.baseline, **figures)

    def _completed(self, first: Snapshot, compressed: CompressedModel) -> Snapshot:
        """Return ``first`` with what was not known yet when it was outlined; waits for the graph."""
        runtime = self.runtime
        if not self._is_complete:
            self._outline_baseline(whole=True)
        size, latency = self._size(compressed), self._latency.predict(compressed)
        return dataclasses.replace(first, baseline=self.baseline, size=size, latency=latency, runtime=runtime)

    def measure(self, first: Snapshot, parent: Recipe | None, check: Check) -> Iterator[Snapshot]:
        """Yield the Snapshots that follow ``first``, as outlined: each look, and the exact, settled one.

        ``parent`` is the setting it came from, as the history notes it. Raises ``Superseded`` or
        ``Stopped`` where ``check`` or ``stop`` ends it.
        """
        recipe = first.recipe
        compressed = self.compress(recipe, check)
        if not first.runtime or not self._is_complete:
            first = self._completed(first, compressed)
            yield first
        if self._sampler is None:
            yield from self._measure_baseline(first, check)
        known = self._remembered.figures(recipe) or self._recall(recipe, compressed)
        if known is None:
            figures, logits = yield from self._evaluate_truly(first, compressed, check)
            known = figures, self._keep(first, figures, logits, parent)
        self._remembered.bring_back(recipe)
        settled = first.with_figures(*known, self.split.labelled)
        yield dataclasses.replace(settled, baseline=self.baseline, notes=self._notes(compressed), settled=True)

    def stop(self) -> None:
        """Give up the batch that is running, from another thread."""
        self._glimpses.stop()
        runner = self._runner
        if runner is not None:
            runner.stop()

    def measure_latency(self, recipe: Recipe) -> Latency:
        """Measure ``recipe`` on this machine, for the history too; no images run meanwhile."""
        latency = self.latencies.measure(recipe)
        self._remembered.keep_latency(recipe, latency.ms)
        return latency

    def prepare(self, quiet: Callable[[], bool], main: bool = False) -> None:
        """Find what first moves would wait for, while it is ``quiet``; raises ``Superseded`` where it no longer is.

        ``quiet`` is asked often, and may raise to end it; ``main``: only what those of the main sliders would.
        """
        check = _while(quiet)
        if self._sampler is not None:  # before, their order is not known, and they would be normalised again
            self._evaluator.images(0, 1)  # with the first, the whole split
        self.subject.tracing.beforehand(quiet)
        while (self._rehearsal.is_on_main or not main) and self._rehearse(check):
            self.courtesy.give_way(check)

    def foresee(self, quiet: Callable[[], bool]) -> None:
        """Find one group of the figures that are wanted beforehand, while it is ``quiet``, as with ``prepare``."""
        check = _while(quiet)
        while self.foresight.go_on(check):
            check()
            self.courtesy.give_way(check)
            self.latencies.wait()

    def _kept(self) -> Kept:
        path = None if self._locks is None else self._locks.parent / "foreseen.sqlite"
        return Kept(path, owner_of(self.subject, self.keys.main, self._seed))

    def foreseen(self, recipe: str) -> Foreseen | None:
        """Return the figures of the recipe with this hash, where they were found beforehand."""
        found = self.foresight.get(recipe)
        if found is None:
            return None
        size = self._sized(found.bytes, found.entropy_bytes, found.runtime_bytes)
        if found.score is None or found.low is None or found.high is None:
            return Foreseen(size)
        kind: Kind = "exact" if found.images == len(self.split) else "sampled"
        score = Estimate(found.score, found.low, found.high, found.images, kind, self.split.name)
        return Foreseen(size, score, found.agreement)

    def _rehearse(self, check: Check) -> bool:
        with self._compressing, one_openmp_thread():
            return self._rehearsal.go_on(check)

    def refresh_latency(self, snapshot: Snapshot) -> Snapshot:
        """Return ``snapshot`` with its latencies predicted anew; of a recipe that failed there are none."""
        self._tell_baseline(latency=self._latency.predict(self.compress(Recipe())))
        if snapshot.error:
            return dataclasses.replace(snapshot, baseline=self.baseline)
        compressed = self.compress(snapshot.recipe)
        return dataclasses.replace(
            snapshot,
            baseline=self.baseline,
            latency=self._latency.predict(compressed),
            measured_latency=self.latencies.measured(snapshot.recipe),
            notes=self._notes(compressed),
        )

    def time_shares(self, recipe: Recipe) -> dict[str, float]:
        """Return weight name → share of the predicted time under ``recipe``; none before latency can be predicted."""
        return self.latencies.time_shares(recipe) if self.is_written else {}

    def graph(self, recipe: Recipe) -> OnnxGraph | None:
        """Return the ONNX graph of a setting's structure, None where it doesn't export."""
        return self._evaluator.graphs.of(self.compress(recipe))

    def logits(self, recipe: Recipe) -> Logits | None:
        """Return the logits ``(N, classes)`` of a setting measured lately, in the split's order, or None."""
        return self._remembered.logits(recipe)

    def answers(self, recipe: Recipe) -> NDArray[np.integer[Any]] | None:
        """Return each image's answer ``(N,)`` under a measured setting, or None where it was not measured."""
        return self._remembered.answers(recipe)

    def keep_logits(self, recipe: Recipe, logits: Logits) -> None:
        """Keep the logits of a setting ``(N, classes)``, in the split's order; the oldest make room."""
        self._remembered.keep_logits(recipe, logits)

    def runner(self, recipe: Recipe) -> Runner:
        """Return a runner for ``recipe`` of its own, for work on another thread."""
        return self._evaluator.free_runner(self.compress(recipe))

    def answer(self, recipe: Recipe, image: Tensor) -> tuple[Logits, Logits]:
        """Return the class probabilities of one image ``(C, H, W)``: the dense model's and the compressed one's."""
        batch = self._normalization(image[None])
        found = []
        for wanted in (Recipe(), recipe):
            with torch.inference_mode():
                logits = self.compress(wanted).module(batch)
            found.append(np.asarray(logits.float().softmax(1)[0].numpy()))
        return found[0], found[1]

    def footing(self, check: Check) -> Footing:
        """Return what other work needs to run images likewise; the baseline must have been measured."""
        if self._sampler is None:
            raise WorkbenchError("The dense model has not been measured yet.")
        context, evaluator = context_for(self.subject.model, self._data, check), self._evaluator
        images = evaluator.images
        shared = self.subject, evaluator.graph, self._sampler, images, context, self.baseline, self.runtime
        return Footing(*shared, self.latencies.timing)

    def _size(self, compressed: CompressedModel, whole: bool = True) -> Size:
        archive = compressed.archive
        runtime_bytes = self._latency.runtime_bytes(compressed) if whole else None
        return self._sized(archive.nbytes, archive.entropy_bytes, runtime_bytes)

    def _sized(self, nbytes: int, entropy_bytes: int, runtime_bytes: int | None) -> Size:
        return Size(nbytes, self.subject.dense_fp32_bytes, runtime_bytes, entropy_bytes)

    def _notes(self, compressed: CompressedModel) -> tuple[str, ...]:
        description = self.latencies.target.description if self.latencies.target else None
        pattern = description.sparsity.pattern if description and description.sparsity else None
        device = description.title if description else "This machine"
        return (*self.notes, *compressed.notes, *remarks_on(device, pattern, compressed.recipe.steps))

    def _measure_baseline(self, first: Snapshot, check: Check) -> Iterator[Snapshot]:
        """Find the dense model's logits on the whole split; interrupted, it goes on where it stopped."""
        logits = self._remembered.baseline_logits()
        if logits is None:
            with self._alone(check):
                logits = self._remembered.baseline_logits()  # another process may have found them meanwhile
                if logits is None:
                    yield from self._run_baseline(first, check)
                    logits = np.concatenate(self._partial)
                    self._remembered.keep_baseline_logits(logits)
        if self._evaluator.is_random():
            self.note(RANDOM)
        labels = self.split.labels.numpy()
        judge = labels if self.split.labelled else logits.argmax(1)  # without labels, by the dense model's answers
        sampler = Sampler(logits, judge, seed=self._seed, split=self.split.name)
        figures = sampler.estimate(logits[sampler.order])
        self._evaluator.set_order(sampler.order)
        self._tell_baseline(agreement=figures.agreement)
        if self.split.labelled:
            self._tell_baseline(accuracy=figures.accuracy, loss=figures.loss, top5=figures.top5)
        self._sampler = sampler
        self._finder = FlipFinder(logits, labels, sampler.order)
        size, latency, layers = self.baseline.size, self.baseline.latency, self.compress(Recipe()).layers
        plain = dataclasses.replace(first, recipe=Recipe(), size=size, latency=latency, layers=layers)
        self._keep(plain, figures, logits[sampler.order], None)

    def _alone(self, check: Check) -> AbstractContextManager[None]:
        """Wait while another process measures this baseline, as pages that open together would."""
        if self._locks is None:
            return nullcontext()

        def unwanted() -> bool:
            check()
            return False

        name = f"baseline-{self.subject.hash[:12]}-{self.split.hash[:12]}"
        return alone(self._locks / name, unwanted)

    def _run_baseline(self, first: Snapshot, check: Check) -> Iterator[Snapshot]:
        self._runner = runner = self._evaluator.runner(self.compress(Recipe()), check)
        check()
        done = sum(map(len, self._partial))
        for logits in self._evaluator.batches(runner, done, check=self.latencies.wait):
            self._partial.append(logits)
            done += len(logits)
            check()
            if len(self._partial) % 8 == 0:
                note = f"Measuring the baseline: {done:,} of {len(self.split):,} images."
                yield dataclasses.replace(first, doing=note)

    def _evaluate_truly(self, first: Snapshot, compressed: CompressedModel, check: Check) -> Evaluation:
        """Evaluate; where ONNX Runtime turns out to answer differently, again in PyTorch."""
        try:
            found = yield from self._evaluate(first, compressed, check)
            if self._evaluator.confirm(compressed):
                return found
        except (Superseded, Stopped):
            raise
        except Exception:  # the runtime may choke on a structure it has not seen yet
            if self._evaluator.confirm(compressed):
                raise
        return (yield from self._evaluate(first, compressed, check))

    def _evaluate(self, first: Snapshot, compressed: CompressedModel, check: Check) -> Evaluation:
        """Run the split look by look, yielding each; return the exact figures and all logits."""
        assert self._sampler is not None
        self._runner = runner = self._evaluator.runner(compressed, check)
        first = dataclasses.replace(first, runtime=runner.runtime, baseline=self.baseline)

        shown = False

        def check_and_give_way() -> None:
            check()
            if shown:  # from here on the figure only narrows: whoever waits for a first one comes first
                self.courtesy.give_way(check)
            self.latencies.wait()

        check()  # a stop before the runner was known must not be lost
        *_, last = self._sampler.looks
        for figures, logits in self._evaluator.looks(runner, self._sampler, check_and_give_way):
            if figures.accuracy.n == last:
                return figures, logits
            yield first.with_figures(figures, self._found(logits), self.split.labelled)
            shown = True
        raise AssertionError("the last look is the whole split")

    def _keep(self, first: Snapshot, figures: Figures, logits: Logits, parent: Recipe | None) -> tuple[Flip, ...]:
        """Remember a measured setting, whose logits are in the sample's order; return the flipped images."""
        assert self._sampler is not None
        in_order = np.empty_like(logits)
        in_order[self._sampler.order] = logits
        flips = self._found(logits)
        latency = first.latency.ms if first.latency and self.latencies.target is None else None  # of this machine only
        self._remembered.keep(first, figures, in_order, flips, parent, latency)
        return flips

    def _recall(self, recipe: Recipe, compressed: CompressedModel) -> tuple[Figures, tuple[Flip, ...]] | None:
        """Take a setting measured earlier from the history; only its flipped images are run again."""
        assert self._finder is not None
        recalled = self._remembered.recall(recipe)
        if recalled is None:
            return None
        figures, predictions = recalled
        flipped = self._finder.differing(predictions)
        flips = self._finder.describe(flipped, self._evaluator.run_images(self._evaluator.runner(compressed), flipped))
        self._remembered.take_back(recipe, figures, flips)
        return figures, flips

    def _found(self, logits: Logits) -> tuple[Flip, ...]:
        return self._finder.find(logits) if self._finder else ()

    def note(self, note: str) -> None:
        """Add a sentence to the notes, once."""
        if note not in self.notes:
            self.notes = (*self.notes, note)


def _while(quiet: Callable[[], bool]) -> Check:
    """Return what raises ``Superseded`` where it is no longer ``quiet``."""

    def check() -> None:
        if not quiet():
            raise Superseded

    return check
