"""The sweep behind a Sensitivity: all cells at once, narrowing look by look.

*Order.* The images come in the Sampler's order along its looks (64, 128, 256, ... all). Each look takes
every cell that much further, so that the whole map is there after 64 images, with intervals, and
narrows until it is exact or as narrow as is wanted. Cancelled at any time, what is there stays valid, and
a later sweep goes on from it: the cells that were through a look are not run over its images again. Once each is
narrow enough, those that decide the order of the layers go on where the order is wanted (``ordering``).

*Work.* The work is cut into pieces of some cells and some images (``cutting``), which an Executor carries out
(``cells``): threads of this process, the usual and here the fastest, or other processes and machines. What comes back
are each image's answers, so that it does not matter who ran it.

*Manners.* Between two pieces of work the sweep asks whether it was cancelled, and lets the person's own
recipe settle first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from workbench.footing import Footing
from workbench.jobs import Job
from workbench.measure.shares import Interval
from workbench.run.executor import Crew, Executor, hire

from .cells import CellRunner, LocalKit, Piece, RemoteKit, Told, batch_of, held_together, order_of
from .cutting import Load, cut_for_others, cut_here
from .figures import figures_of
from .finding import MEASURED, Answered, Floats, Question, Sensitivity
from .keeping import Keeper, take_over
from .ordering import LEAST_LAYERS, Standing, deciding_cells, find_standing
from .pauses import Host, Pauses
from .variants import Layout, VariantSource

#: A cell is settled once its half-width is at most this share of what it lost, with a tolerance.
RELATIVE = 0.1
#: Images of a whole sweep whose layers are to be in order, in relation to what the intervals alone took, at most.
MOST_MORE = 4.0
#: Seconds between two reports of progress.
PACE = 0.1


class SensitivityJob(Job[Sensitivity]):
    """Measures a Question in the background; ``latest`` is what is known so far, None before the first cell.

    It goes on from ``start`` as far as that asked the same of the same images. ``relative``: the share of its
    loss that a cell's half-width may have, where that is more than the ``tolerance``. ``most``: no cell is taken
    beyond the first look that has so many images. ``order``: with a tolerance, the cells that decide the layers' order
    go on until its rank correlation with the one on all images is so much, in nine draws of ten (``ordering``), or
    until they took ``MOST_MORE`` times the images of the intervals. ``keeper`` is told all that is found.
    """

    def __init__(
        self,
        session: Host,
        question: Question,
        tolerance: float | None = None,
        *,
        relative: float = RELATIVE,
        start: Sensitivity | None = None,
        executor: str | Executor | None = None,
        most: int | None = None,
        order: float | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.session, self.question, self.tolerance, self.most = session, question, tolerance, most
        self.order = order if tolerance is not None and len(question.layers) >= LEAST_LAYERS else None
        self.relative, self.start, self.keeper = relative, start, keeper
        self.latest: Sensitivity | None = None
        self.executor, self._hired = hire(executor)
        super().__init__("sensitivity sweep", lambda _: _measure(self))

    @property
    def trouble(self) -> str:
        """Why what is found is not being kept, where it was to be."""
        return self.keeper.trouble if self.keeper else ""


def _measure(job: SensitivityJob) -> Sensitivity:
    state = "cancelled"
    with job._hired:
        try:
            pauses = Pauses(job)
            pauses.take()  # from then on the dense model's figures are known
            found = _Sweep(job, job.session.footing(job.check), pauses).run()
            state = "done"
            return found
        finally:
            if job.keeper is not None and job.latest is not None:
                job.keeper.note(job.latest, state)


@dataclass
class _Row:
    """One layer: what its variants need, and the columns that are still measured."""

    place: int
    layout: Layout
    open: list[int] = field(default_factory=list)


@dataclass
class _Stretch:
    """Columns of one row and the images from one look to the next; ``missing`` pieces of it are under way."""

    row: _Row
    columns: tuple[int, ...]
    start: int
    stop: int
    missing: int = 0


class _Sweep:
    def __init__(self, job: SensitivityJob, footing: Footing, pauses: Pauses) -> None:
        self._job, self._footing, self._pauses = job, footing, pauses
        self._sampler = footing.sampler
        self._total = len(self._sampler.labels)
        last = next((look for look in self._sampler.looks if job.most is not None and look >= job.most), self._total)
        self._looks = tuple(look for look in self._sampler.looks if look <= last)
        score, loss = footing.baseline.score, footing.baseline.loss
        assert score is not None, "the sampler is made from the baseline"
        found = Sensitivity.unknown(job.question, score, labelled=footing.baseline.accuracy is not None)
        answers = Answered.blank((found.n.shape[0], found.n.shape[1]), self._total, order_of(self._sampler))
        self._found = replace(found, loss=loss.value if loss else np.nan, answers=answers)
        self._answers = answers
        self._same = np.zeros(self._found.n.shape, np.bool_)
        self._source = VariantSource(footing)
        self._batch = batch_of(footing)
        self._done, self._told, self._enough = 0.0, 0.0, 0.0

    def run(self) -> Sensitivity:
        """Measure every cell, look by look."""
        rows = [self._lay_out(place) for place in range(len(self._job.question.layers))]
        self._work = np.array([[row.layout.macs] for row in rows], np.float64)
        self._go_on()
        self._publish()
        if self._close(rows):
            if self._is_ordered():
                return self._finish()
        else:
            self._enough = 0.0  # the intervals take more than they did
        crew = self._job.executor.open(self._kit(tuple(row.layout for row in rows)))
        try:
            for start, stop in pairwise((0, *self._looks)):
                self._run(crew, [self._stretches(rows, start, stop)])
            self._put_in_order(crew, rows)
        finally:
            self._pauses.stopped = True  # the threads end at their next pause
            crew.close()
        return self._finish()

    def _finish(self) -> Sensitivity:
        """Return what was found; where all is exact, nobody goes on from the images' answers."""
        return replace(self._found, answers=None) if self._found.exact else self._found

    def _kit(self, layouts: tuple[Layout, ...]) -> LocalKit | RemoteKit:
        job, footing = self._job, self._footing
        if job.executor.remote:
            here = job.session
            return RemoteKit.of(footing, job.question, layouts, here.split.images, here.normalization, here.data)
        self._source.open(layouts, answers=True)
        return LocalKit(CellRunner(footing, job.question, self._source, self._pauses.take))

    def _lay_out(self, place: int) -> _Row:
        """Return one row; a cell whose layer is left as it is has the dense model's accuracy."""
        self._pauses.take()
        question, found = self._job.question, self._found
        layout = self._source.lay_out([question.recipe(question.layers[place], level) for level in question.levels])
        same = [column for column in range(len(question.levels)) if column not in layout.changed]
        self._set(place, same, self._total, (found.baseline.value,) * 3)
        for name, value in (("agreement", 1.0), ("loss", found.loss), ("kl", 0.0), ("logit_mse", 0.0)):
            for part in found.measured[name]:
                part[place, same] = value
        self._same[place, same] = True
        return _Row(place, layout)

    def _go_on(self) -> None:
        """Take over what an earlier sweep measured."""
        if self._job.start is not None:
            self._found = take_over(self._found, self._job.start, self._sampler.looks, self._same)
            self._enough = self._job.start.allowance

    def _close(self, rows: list[_Row]) -> bool:
        """Note which cells are still measured; return whether none is."""
        settled = self._settled()
        for row in rows:
            row.open = [column for column in row.layout.changed if not settled[row.place, column]]
        return not any(row.open for row in rows)

    def _stretches(self, rows: list[_Row], start: int, stop: int) -> list[_Stretch]:
        """Return what takes the open cells that are known as far as ``start`` on to ``stop``."""
        n = self._found.n
        columns = [tuple(column for column in row.open if n[row.place, column] == start) for row in rows]
        return [_Stretch(row, taken, start, stop) for row, taken in zip(rows, columns, strict=True) if taken]

    def _run(self, crew: Crew[Piece, Told], looks: list[list[_Stretch]]) -> None:
        """Run the stretches, of one look in each list; all of them are handed out before any is waited for."""
        work: list[tuple[Piece, list[_Stretch]]] = []
        for stretches in filter(None, looks):
            by_place = {each.row.place: each for each in stretches}
            for piece in self._cut(stretches):
                through = [by_place[place] for place, _ in piece.cells]
                for each in through:
                    each.missing += 1
                work.append((piece, through))
        for number, told in crew.run([piece for piece, _ in work]):
            piece, through = work[number]
            self._note(piece, told)
            for each in through:
                each.missing -= 1
                if each.missing == 0:
                    self._estimate(each)
            self._pauses.take()

    def _put_in_order(self, crew: Crew[Piece, Told], rows: list[_Row]) -> None:
        """Take the cells that decide the layers' order a look further, again and again, until it is sure enough."""
        self._enough = self._enough or MOST_MORE * self._spent()
        while not self._is_ordered():
            chosen = deciding_cells(self._standing(), self._found.n, self._looks, self._work)
            for row in rows:
                row.open = np.flatnonzero(chosen[row.place]).tolist()
            self._run(crew, [self._stretches(rows, start, stop) for start, stop in pairwise(self._looks)])

    def _is_ordered(self) -> bool:
        """Note how sure the layers' order is; return whether that is enough, or as much as can be had."""
        wanted, found = self._job.order, self._found
        if wanted is None or not found.known:
            return wanted is None
        standing = self._standing()
        self._found = replace(found, order=standing.sure_of, places=standing.places, allowance=self._enough)
        self._publish()
        spent = bool(self._enough) and self._spent() >= self._enough
        return standing.sure_of >= wanted or spent or bool((found.n >= self._looks[-1]).all())

    def _standing(self) -> Standing:
        sampler, found = self._sampler, self._found
        before = (sampler.labels == sampler.predicted)[sampler.order]
        return find_standing(sampler.strata, self._answers.arrays["right"], before, found.value, found.n)

    def _spent(self) -> float:
        """Return the multiply-accumulates that the cells took, those of earlier sweeps included."""
        return float((np.where(self._same, 0, self._found.n) * self._work).sum())

    def _cut(self, stretches: list[_Stretch]) -> Iterator[Piece]:
        start, stop = stretches[0].start, stretches[0].stop
        loads = [Load(each.row.place, each.columns, each.row.layout.macs) for each in stretches]
        executor = self._job.executor
        if not executor.remote:
            return cut_here(loads, start, stop, self._batch, self._chunk)
        trunk = sum(layer.macs for layer in self._footing.subject.layers)
        return cut_for_others(loads, start, stop, self._batch, executor.workers, trunk)

    @cached_property
    def _chunk(self) -> int:
        """Images that are worked on together: those whose activations may be held."""
        return held_together(self._source.values(self._footing.images(0, 1)), 1, self._batch)

    def _note(self, piece: Piece, told: Told) -> None:
        """Keep each image's answers."""
        self._answers.power[piece.first : piece.last] = told.power
        for (place, columns), answers in zip(piece.cells, told.rows, strict=True):
            for name, values in answers.items():
                self._answers.arrays[name][place, list(columns), piece.first : piece.last] = values
            self._advance(float(self._work[place, 0]) * len(columns) * (piece.last - piece.first))

    def _estimate(self, stretch: _Stretch) -> None:
        """Set the figures of the cells that a stretch took further; close those that are settled."""
        row, columns, n = stretch.row, list(stretch.columns), stretch.stop
        look = None if n == self._total else self._sampler.strata.look(n)
        answers = {name: values[row.place, columns, :n] for name, values in self._answers.arrays.items()}
        figures = figures_of(self._sampler, answers, look)
        if not self._found.labelled:
            figures["loss"] = Interval(*(np.full(len(columns), np.nan) for _ in range(3)))
        self._set(row.place, columns, n, figures.pop("accuracy"))
        for name in MEASURED:
            for part, values in zip(self._found.measured[name], figures[name], strict=True):
                part[row.place, columns] = values
        power = self._answers.power[:n].astype(np.float64)
        mean = float(power.mean() if look is None else look.totals(power) @ look.flip)
        self._found = replace(self._found, power=mean)
        settled = self._settled()[row.place]
        row.open = [column for column in row.open if not settled[column]]
        self._publish()

    def _set(self, place: int, columns: list[int], n: int, figures: tuple[Floats | float, ...]) -> None:
        found = self._found
        found.value[place, columns], found.low[place, columns], found.high[place, columns] = figures
        found.n[place, columns] = n

    def _settled(self) -> NDArray[np.bool_]:
        found = self._found
        with np.errstate(invalid="ignore"):
            near = self._half() <= self._wanted()
        return np.asarray((found.n >= self._looks[-1]) | ((found.n > 0) & near))

    def _half(self) -> Floats:
        return np.asarray((self._found.high - self._found.low) / 2)

    def _wanted(self) -> Floats:
        """Return the half-width at which each cell is settled."""
        if self._job.tolerance is None:
            return np.zeros(self._found.n.shape)
        return np.maximum(self._job.tolerance, self._job.relative * np.nan_to_num(self._found.lost))

    def _publish(self) -> None:
        self._job.latest = latest = self._found.copy()
        if self._job.keeper is not None:
            self._job.keeper.note(latest, "running")
        self._advance(0, tell=True)

    def _advance(self, work: float, tell: bool = False) -> None:
        self._done += work
        now = time.monotonic()
        if not tell and now - self._told < PACE:
            return
        self._told = now
        self._job.advance(self._done, self._done + self._left())

    def _left(self) -> float:
        """Return the work left; with a tolerance, by how far the intervals have still to narrow."""
        n = self._found.n
        images = np.full(n.shape, float(self._looks[-1]))
        if self._job.tolerance is not None:
            with np.errstate(invalid="ignore"):
                needed = n * (self._half() / self._wanted()) ** 2
            needed = needed / (1 + needed / self._total)  # drawn without replacement, fewer do
            looks = np.array(self._looks)
            images = looks[np.searchsorted(looks, np.where(n > 0, needed, self._total / 4)).clip(max=len(looks) - 1)]
        images = np.where(self._settled(), n, np.maximum(images, n))
        left = float((np.where(self._same, 0, images - n) * self._work).sum())
        if self._job.order is not None:  # putting the layers in order takes about as much again
            goal = 2 * (self._enough / MOST_MORE or self._spent() + left)
            left = max(left, goal - self._spent())
        return left
