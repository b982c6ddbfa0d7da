"""The sweep behind a Sensitivity: all cells at once, narrowing look by look.

*Order.* The images come in the Sampler's order along its looks (64, 128, 256, ... all). Each look takes
every cell that much further, so that the whole map is there after 64 images, with intervals, and
narrows until it is exact or as narrow as is wanted. Cancelled at any time, what is there stays valid.

*Work.* For each batch the dense network runs once and hands out what the layers' variants start from;
then each layer's variants run from there (``run.forks``). Two threads take batches in turn, each with
sessions that use one core: on a small network that keeps both cores busier than one session on two.

*Manners.* Between two pieces of work, about 20 ms each, the sweep asks whether it was cancelled, and lets
the person's own recipe settle first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from workbench.engine import Footing
from workbench.jobs import Cancelled, Job
from workbench.measure.answers import Answers

from .sensitivity import Floats, Question, Sensitivity
from .variants import Layout, Values, Variants, VariantSource

if TYPE_CHECKING:
    from workbench.measure.strata import Look
    from workbench.session import Session

#: A cell is settled once its half-width is at most this share of what it lost, with a tolerance.
RELATIVE = 0.1
#: Multiply-accumulates of one piece of work, about 20 ms on one core.
PIECE = 1_000_000_000
#: Images of one piece, at most.
BATCH = 32
#: Bytes of activations held for the images that are worked on, at most.
HELD_BYTES = 256 * 2**20
#: Bytes of loaded variants kept from one chunk of images to the next, at most.
KEPT_BYTES = 256 * 2**20
#: Seconds between two reports of progress.
PACE = 0.1

FIGURES = ("value", "low", "high", "n")

Span = tuple[int, int]


class SensitivityJob(Job[Sensitivity]):
    """Measures a Question in the background; ``latest`` is what is known so far, None before the first cell."""

    def __init__(self, session: Session, question: Question, tolerance: float | None = None) -> None:
        self.session, self.question, self.tolerance = session, question, tolerance
        self.latest: Sensitivity | None = None
        super().__init__("sensitivity sweep", lambda job: _measure(self))


def _measure(job: SensitivityJob) -> Sensitivity:
    pauses = _Pauses(job)
    pauses.take()  # from then on the dense model's figures are known
    return _Sweep(job, job.session.footing(job.check), pauses).run()


class _Pauses:
    """Where a sweep's threads ask whether they may go on."""

    def __init__(self, job: SensitivityJob) -> None:
        self._job = job
        self._gate = threading.Lock()  # of two threads that wait, only one counts the time
        self.stopped = False

    def take(self) -> None:
        """Wait while the person's recipe is measured. Raises ``Cancelled`` where the job is over."""
        job = self._job
        with self._gate:
            start = time.monotonic()
            job.session.give_way(lambda: job.cancelled or self.stopped)
            waited = time.monotonic() - start
            if waited > 0.005:
                job.waited(waited)
        job.check()
        if job.session.closed or self.stopped:
            raise Cancelled


@dataclass
class _Row:
    """One layer: the columns that are still measured, and the answers so far.

    ``margins`` and ``right`` ``(levels, N)`` are each image's margin of the right class and whether the
    answer is right.
    """

    place: int
    layout: Layout
    open: list[int]
    margins: NDArray[np.float32]
    right: NDArray[np.bool_]
    variants: Variants | None = None
    loading: threading.Lock = field(default_factory=threading.Lock)


class _Sweep:
    def __init__(self, job: SensitivityJob, footing: Footing, pauses: _Pauses) -> None:
        self._job, self._footing, self._pauses = job, footing, pauses
        self._sampler = footing.sampler
        self._total = len(self._sampler.labels)
        accuracy = footing.baseline.accuracy
        assert accuracy is not None, "the sampler is made from the baseline"
        self._found = Sensitivity.unknown(job.question, accuracy)
        self._same = np.zeros(self._found.n.shape, np.bool_)
        self._source = VariantSource(footing)
        self._workers = torch.get_num_threads()
        self._batch = max(1, min(BATCH, PIECE // max(1, sum(layer.macs for layer in footing.subject.layers))))
        self._counting = threading.Lock()
        self._done, self._told, self._kept = 0.0, 0.0, 0

    def run(self) -> Sensitivity:
        """Measure every cell, look by look."""
        rows = [self._lay_out(place) for place in range(len(self._job.question.layers))]
        self._work = np.array([[row.layout.macs] for row in rows], np.float64)
        self._publish()
        self._source.open(row.layout for row in rows)
        chunk = self._chunk()
        with ThreadPoolExecutor(self._workers, "workbench-sweep") as pool:
            try:
                for start, stop in pairwise((0, *self._sampler.looks)):
                    self._take_look(pool, [row for row in rows if row.open], start, stop, chunk)
            finally:
                self._pauses.stopped = True  # the threads end at their next pause
                pool.shutdown(cancel_futures=True)
        return self._found

    def _lay_out(self, place: int) -> _Row:
        """Return one row; a cell whose layer is left as it is has the dense model's accuracy."""
        self._pauses.take()
        question, found = self._job.question, self._found
        layout = self._source.lay_out([question.recipe(question.layers[place], level) for level in question.levels])
        same = [column for column in range(len(question.levels)) if column not in layout.changed]
        self._set(place, same, self._total, (found.baseline.value,) * 3)
        self._same[place, same] = True
        shape = len(question.levels), self._total
        return _Row(place, layout, list(layout.changed), np.zeros(shape, np.float32), np.zeros(shape, np.bool_))

    def _chunk(self) -> int:
        """Return how many images are worked on together: those whose activations may be held."""
        one = self._source.values(self._footing.images(0, 1))
        return max(self._batch, HELD_BYTES // max(1, sum(value.nbytes for value in one.values())))

    def _take_look(self, pool: ThreadPoolExecutor, rows: list[_Row], start: int, stop: int, chunk: int) -> None:
        look = None if stop == self._total else self._sampler.strata.look(stop)
        for span in _spans(start, stop, chunk):
            for row in self._run(pool, rows, span):
                if span[1] == stop:
                    self._estimate(row, stop, look)

    def _run(self, pool: ThreadPoolExecutor, rows: list[_Row], span: Span) -> Iterator[_Row]:
        """Run images ``span`` through the open cells of ``rows``; yield each row when it is through."""
        share = -(-(span[1] - span[0]) // self._workers)  # few images are shared by all threads too
        batches = list(_spans(*span, min(self._batch, share)))
        held = list(pool.map(self._prepare, batches))
        tasks = [(row, *batch) for row in rows for batch in zip(batches, held, strict=True)]
        for count, row in enumerate(pool.map(self._answer, *zip(*tasks, strict=True)) if tasks else (), start=1):
            if count % len(batches) == 0:
                yield row
                self._let_go(row)

    def _prepare(self, batch: Span) -> Values:
        self._pauses.take()
        return self._source.values(self._footing.images(*batch))

    def _answer(self, row: _Row, batch: Span, values: Values) -> _Row:
        """Run one batch through a row's open cells and note the answers."""
        self._pauses.take()
        first, last = batch
        columns = row.open
        parts = []
        for part in self._load(row, values).run(values):
            parts.append(part)
            self._pauses.take()
        logits = np.concatenate(parts)
        index = np.tile(self._sampler.order[first:last], len(columns))
        answers = Answers(logits, self._sampler.labels[index], self._sampler.predicted[index])
        shape = len(columns), last - first
        row.margins[columns, first:last] = answers.margin("accuracy").reshape(shape)
        row.right[columns, first:last] = answers.right("accuracy").reshape(shape)
        self._advance(row.layout.macs * len(logits))
        return row

    def _load(self, row: _Row, values: Values) -> Variants:
        with row.loading:
            if row.variants is None:
                question = self._job.question
                layer = question.layers[row.place]
                recipes = [question.recipe(layer, question.levels[column]) for column in row.open]
                row.variants = self._source.load(recipes, values)
                with self._counting:
                    self._kept += row.variants.nbytes
            return row.variants

    def _let_go(self, row: _Row) -> None:
        """Drop a row's variants where all together take too much memory; they are loaded anew."""
        if self._kept > KEPT_BYTES:
            self._drop(row)
            self._source.forget()

    def _drop(self, row: _Row) -> None:
        with row.loading, self._counting:
            if row.variants is not None:
                self._kept -= row.variants.nbytes
                row.variants = None

    def _estimate(self, row: _Row, n: int, look: Look | None) -> None:
        """Set the figures of a row's open cells from the first ``n`` images; close those that are settled."""
        columns = row.open
        right = row.right[columns, :n]
        if look is None:
            self._set(row.place, columns, n, (right.mean(-1),) * 3)
        else:
            margins = row.margins[columns, :n].astype(np.float64)
            self._set(row.place, columns, n, self._sampler.share("accuracy", look, margins, right))
        settled = self._settled()[row.place]
        row.open = [column for column in columns if not settled[column]]
        if len(row.open) < len(columns):
            self._drop(row)
        self._publish()

    def _set(self, place: int, columns: list[int], n: int, figures: tuple[Floats | float, ...]) -> None:
        found = self._found
        found.value[place, columns], found.low[place, columns], found.high[place, columns] = figures
        found.n[place, columns] = n

    def _settled(self) -> NDArray[np.bool_]:
        found = self._found
        with np.errstate(invalid="ignore"):
            near = self._half() <= self._wanted()
        return np.asarray((found.n == self._total) | ((found.n > 0) & near))

    def _half(self) -> Floats:
        return np.asarray((self._found.high - self._found.low) / 2)

    def _wanted(self) -> Floats:
        """Return the half-width at which each cell is settled."""
        if self._job.tolerance is None:
            return np.zeros(self._found.n.shape)
        return np.maximum(self._job.tolerance, RELATIVE * np.nan_to_num(self._found.lost))

    def _publish(self) -> None:
        found = self._found
        self._job.latest = replace(found, **{name: getattr(found, name).copy() for name in FIGURES})
        self._advance(0, tell=True)

    def _advance(self, work: float, tell: bool = False) -> None:
        with self._counting:
            self._done += work
            now = time.monotonic()
            if not tell and now - self._told < PACE:
                return
            self._told, done = now, self._done
        self._job.advance(done, max(done, self._foresee_work()))

    def _foresee_work(self) -> float:
        """Return the work of the whole sweep; with a tolerance, by how far the intervals have still to narrow."""
        n = self._found.n
        images = np.full(n.shape, float(self._total))
        if self._job.tolerance is not None:
            with np.errstate(invalid="ignore"):
                needed = n * (self._half() / self._wanted()) ** 2
            needed = needed / (1 + needed / self._total)  # drawn without replacement, fewer do
            looks = np.array(self._sampler.looks)
            images = looks[np.searchsorted(looks, np.where(n > 0, needed, self._total / 4)).clip(max=len(looks) - 1)]
        images = np.where(self._settled(), n, np.maximum(images, n))
        return float((np.where(self._same, 0, images) * self._work).sum())


def _spans(start: int, stop: int, size: int) -> Iterator[Span]:
    for first in range(start, stop, size):
        yield first, min(first + size, stop)
