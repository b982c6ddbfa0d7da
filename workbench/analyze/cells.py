"""Runs images through cells of a sweep: what one worker does, on a thread here or on another machine.

A ``Piece`` names some cells and some images. The dense network runs once for a batch and hands out what the cells'
variants start from; then each row's variants run from there (``variants``, ``run.forks``). What was loaded and run is
kept for the next pieces, within bounds. Batches lie at fixed places, so that a piece's answers are the same wherever,
and beside whatever else, it is run.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from workbench.compression import context_for
from workbench.data.dataset import Dataset, Normalization
from workbench.footing import Footing
from workbench.measure.sampling import Sampler
from workbench.run.onnx_graph import OUTPUT
from workbench.techniques.context import Context

from .figures import judge
from .finding import ANSWERS, Question
from .variants import Layout, Values, Variants, VariantSource

#: Multiply-accumulates of one batch, about 20 ms on one core.
PIECE = 1_000_000_000
#: Images of one batch, at most.
BATCH = 32
#: Bytes of activations held for the images that are worked on, at most.
HELD_BYTES = 256 * 2**20
#: Bytes of loaded variants kept from one piece to the next, at most.
KEPT_BYTES = 256 * 2**20

K = TypeVar("K")
V = TypeVar("V")
Span = tuple[int, int]
Pause = Callable[[], None]


@dataclass(frozen=True)
class Piece:
    """Some ``cells`` (a row's place and its columns) and the images ``first..last`` of the order to run there."""

    cells: tuple[tuple[int, tuple[int, ...]], ...]
    first: int
    last: int


@dataclass(frozen=True)
class Told:
    """The answers of a piece: for each of its rows the arrays of ``ANSWERS`` ``(columns, images)``, and ``power``."""

    rows: tuple[dict[str, NDArray[Any]], ...]
    power: NDArray[np.float32]


class CellRunner:
    """Does pieces of one ``question``; several threads may call it. ``pause`` is called between batches."""

    def __init__(self, footing: Footing, question: Question, source: VariantSource, pause: Pause) -> None:
        self._footing, self._question, self._source, self._pause = footing, question, source, pause
        self.batch = batch_of(footing)
        self._held: OrderedDict[int, Future[Values]] = OrderedDict()
        self._loaded: OrderedDict[tuple[int, tuple[int, ...]], Future[Variants]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, piece: Piece) -> Told:
        """Run a piece."""
        size = held_together(
            self._values((piece.first, min(piece.first + self.batch, piece.last))), self.batch, self.batch
        )
        rows: list[list[dict[str, NDArray[Any]]]] = [[] for _ in piece.cells]
        power = []
        for few in spans(piece.first, piece.last, size):  # all rows on images whose activations are held, then the next
            batches = list(spans(*few, self.batch))
            for (place, columns), told in zip(piece.cells, rows, strict=True):
                told += [self._answers(place, columns, batch) for batch in batches]
            power += [np.square(self._values(batch)[OUTPUT]).mean(-1, dtype=np.float32) for batch in batches]
        return Told(tuple(map(_joined, rows)), np.concatenate(power))

    def _answers(self, place: int, columns: tuple[int, ...], batch: Span) -> dict[str, NDArray[Any]]:
        self._pause()
        values = self._values(batch)
        parts = []
        for part in self._variants(place, columns, values).run(values):
            parts.append(part)
            self._pause()
        sampler = self._footing.sampler
        index = sampler.order[batch[0] : batch[1]]
        return judge(np.stack(parts), values[OUTPUT], sampler.labels[index], sampler.predicted[index])

    def _values(self, batch: Span) -> Values:
        def compute() -> Values:
            return self._source.values(self._footing.images(*batch))

        def weigh(values: Values) -> int:
            return sum(value.nbytes for value in values.values())

        return self._once(self._held, batch[0], compute, weigh, HELD_BYTES)

    def _variants(self, place: int, columns: tuple[int, ...], values: Values) -> Variants:
        def compute() -> Variants:
            question = self._question
            recipes = [question.recipe(question.layers[place], question.levels[column]) for column in columns]
            return self._source.load(recipes, values)

        return self._once(self._loaded, (place, columns), compute, _nbytes, KEPT_BYTES)

    def _once(
        self, kept: OrderedDict[K, Future[V]], key: K, compute: Callable[[], V], weigh: Callable[[V], int], limit: int
    ) -> V:
        """Return what ``compute`` gave for ``key``, which one thread finds while the others wait for it."""
        with self._lock:
            found = kept.get(key)
            mine = found is None
            if found is None:
                found = kept[key] = Future()
            kept.move_to_end(key)
        if mine:
            try:
                found.set_result(compute())
            except BaseException as error:
                found.set_exception(error)
                raise
            with self._lock:
                self._trim(kept, weigh, limit)
        return found.result()

    def _trim(self, kept: OrderedDict[K, Future[V]], weigh: Callable[[V], int], limit: int) -> None:
        ready = {key: weigh(each.result()) for key, each in kept.items() if each.done() and not each.exception()}
        total = sum(ready.values())
        for key in list(ready)[:-1]:
            if total <= limit:
                return
            total -= ready[key]
            del kept[key]
            if weigh is _nbytes:
                self._source.forget()  # the tails that dropped variants ran through


@dataclass(frozen=True)
class LocalKit:
    """What threads of this process share: the session's own."""

    runner: CellRunner

    def open(self) -> Callable[[Piece], Told]:
        """Return the runner."""
        return self.runner


@dataclass(frozen=True)
class RemoteKit:
    """What a worker elsewhere needs, all of it values: the images of the split, in the split's order, included."""

    footing: Footing
    question: Question
    layouts: tuple[Layout, ...]
    images: Tensor
    normalization: Normalization
    data: Dataset

    @classmethod
    def of(
        cls, footing: Footing, question: Question, layouts: tuple[Layout, ...], split: Tensor,
        normalization: Normalization, data: Dataset,
    ) -> RemoteKit:  # fmt: skip
        """Return the kit of a session's ``footing``; of the data only the calibration split goes along."""
        kept = {name: part for name, part in data.splits.items() if name == "calibration"}
        subject = footing.subject
        bare = replace(
            footing,
            images=_nothing,
            context=Context(),
            subject=type(subject)(subject.model, subject.image_shape, subject.layers, subject.hash),
        )
        return cls(bare, question, layouts, split, normalization, replace(data, splits=kept))

    def open(self) -> Callable[[Piece], Told]:
        """Return a runner with a context of its own."""
        order = self.footing.sampler.order

        def images(first: int, last: int) -> Tensor:
            return self.normalization(self.images[order[first:last]]).contiguous()

        context = context_for(self.footing.subject.model, self.data)
        footing = replace(self.footing, images=images, context=context)
        source = VariantSource(footing)
        source.open(self.layouts, answers=True)
        return CellRunner(footing, self.question, source, _nothing)


def held_together(values: Values, images: int, batch: int) -> int:
    """Return how many images are worked on together, a multiple of ``batch``; ``values`` are those of ``images``."""
    room = HELD_BYTES // 2 * images // max(1, sum(value.nbytes for value in values.values()))
    return max(1, room // batch) * batch


def batch_of(footing: Footing) -> int:
    """Return how many images make a batch."""
    return max(1, min(BATCH, PIECE // max(1, sum(layer.macs for layer in footing.subject.layers))))


def order_of(sampler: Sampler) -> str:
    """Return a hash of the order in which images are run."""
    import hashlib

    return hashlib.sha256(sampler.order.tobytes()).hexdigest()[:16]


def spans(start: int, stop: int, size: int) -> Iterator[Span]:
    """Yield ``start..stop`` in parts of ``size``."""
    for first in range(start, stop, size):
        yield first, min(first + size, stop)


def _joined(told: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([each[name] for each in told], axis=1) for name in ANSWERS}


def _nbytes(variants: Any) -> int:
    return int(variants.nbytes)


def _nothing(*_: Any) -> Any:
    return None
