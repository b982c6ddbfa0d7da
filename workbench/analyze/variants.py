"""The variants of one layer, loaded to run on a batch: in ONNX Runtime where the model exports, else in PyTorch."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from workbench.compressed import input_grids
from workbench.compression import draft_for
from workbench.evaluation import TOLERANCE
from workbench.footing import Footing
from workbench.models.edits import Slice
from workbench.models.removal import Remove, Shorten
from workbench.recipe import Recipe
from workbench.run.forks import Branch, Forks, Part
from workbench.run.onnx_graph import INPUT, OUTPUT, OnnxGraph
from workbench.run.runner import TorchRunner
from workbench.techniques.draft import Draft

Values = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Layout:
    """What one layer's variants need.

    ``changed`` numbers the recipes that change anything at all; ``frontier`` names the dense network's
    values that the variants start from; ``macs`` are one variant's multiply-accumulates for an image.
    """

    changed: tuple[int, ...]
    frontier: frozenset[str]
    macs: int


class Variants(Protocol):
    """Variants of one layer, ``nbytes`` large; several threads may call ``run``."""

    @property
    def nbytes(self) -> int:
        """Bytes of what was loaded."""

    def run(self, values: Values) -> Iterator[NDArray[np.float32]]:
        """Yield each variant's logits for a batch."""


class VariantSource:
    """Lays out and loads the variants of one model, and runs what they have in common."""

    def __init__(self, footing: Footing) -> None:
        self._footing = footing
        self._subject = footing.subject
        self._compressing = threading.Lock()  # the context's cache is shared
        graph = footing.graph
        self._graph = graph
        self._forks = Forks(graph.build(self._subject.tensors)) if graph else None
        self._trunk: Part | None = None
        self._dense: TorchVariants | None = None
        self._macs = {layer.weight: layer.macs for layer in self._subject.layers}

    def lay_out(self, recipes: Sequence[Recipe]) -> Layout:
        """Return what the variants that ``recipes`` make of one layer need."""
        drafts = [self._draft(recipe) for recipe in recipes]
        changed = tuple(place for place, draft in enumerate(drafts) if self._changes(draft))
        if self._forks is None or self._graph is None or any(map(_lacks_parts, drafts)):
            return Layout(changed, frozenset(), sum(self._macs.values()))
        branches = [self._branch(self._forks, self._graph, drafts[place]) for place in changed]
        frontier = {name for branch in branches for name in self._forks.frontier(branch)}
        macs = max((sum(self._macs.get(name, 0) for name in branch.inputs) for branch in branches), default=0)
        return Layout(changed, frozenset(frontier), macs)

    def open(self, layouts: Iterable[Layout], answers: bool = False) -> None:
        """Load the dense network up to what the variants of all ``layouts`` start from; with ``answers``, all of it."""
        frontier = {name for layout in layouts for name in layout.frontier} | ({OUTPUT} if answers else set())
        self._trunk = self._forks.trunk(frontier) if self._forks and frontier else None
        self._dense = TorchVariants([self._draft(Recipe())]) if answers and self._forks is None else None

    def values(self, images: Tensor) -> Values:
        """Run the dense network on a batch and return what variants start from, the images included.

        Opened with ``answers``, the dense logits are there too, as ``OUTPUT``.
        """
        values: Values = {INPUT: images.numpy()}
        if self._dense is not None:
            values[OUTPUT] = next(self._dense.run(values))
        return {**values, **self._trunk.run(values)} if self._trunk else values

    def load(self, recipes: Sequence[Recipe], values: Values) -> Variants:
        """Return the variants that ``recipes`` make of one layer, ready to run.

        Where channels were removed, ONNX Runtime's answers are compared with PyTorch's on the first of
        ``values``, and PyTorch runs these variants where they differ.
        """
        drafts = [self._draft(recipe) for recipe in recipes]
        if self._forks is None or self._graph is None or any(map(_lacks_parts, drafts)):
            return TorchVariants(drafts)
        branches = [self._branch(self._forks, self._graph, draft) for draft in drafts]
        if not any(isinstance(edit, Slice) for edit in drafts[-1].edits):
            return self._forks.fork(branches)
        few = {name: value[:4] for name, value in values.items()}
        theirs = TorchVariants(drafts[-1:]).run(few)
        try:
            fork = self._forks.fork(branches)
            *_, ours = self._forks.fork(branches[-1:]).run(few)
        except Exception:  # a graph that fixes channel counts fails inside the runtime in many ways
            return TorchVariants(drafts)
        return fork if _agree(ours, next(theirs)) else TorchVariants(drafts)

    def forget(self) -> None:
        """Drop what is kept for variants that are loaded later."""
        if self._forks is not None:
            self._forks.forget()

    def _draft(self, recipe: Recipe) -> Draft:
        with self._compressing:
            return draft_for(self._subject, recipe, self._footing.context)

    def _changes(self, draft: Draft) -> bool:
        before = self._subject.tensors
        return bool(draft.edits) or any(tensor is not before[name] for name, tensor in draft.tensors.items())

    def _branch(self, forks: Forks, graph: OnnxGraph, draft: Draft) -> Branch:
        before = self._subject.tensors
        changed = [name for name in graph.names if draft.tensors[name] is not before[name]]
        return forks.branch(graph.build(draft.tensors, input_grids(draft.edits), only=changed), changed)


def _lacks_parts(draft: Draft) -> bool:
    """Whether whole parts were taken out, which changes the nodes of the graph and not only its tensors."""
    return any(isinstance(edit, Remove | Shorten) for edit in draft.edits)


class TorchVariants:
    """Variants run one after the other in PyTorch, from the images on."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self._runners = [TorchRunner(draft.build()) for draft in drafts]
        self._running = threading.Lock()  # PyTorch keeps every core busy by itself
        self.nbytes = sum(tensor.nbytes for draft in drafts for tensor in draft.tensors.values())

    def run(self, values: Values) -> Iterator[NDArray[np.float32]]:
        """Yield each variant's logits for a batch."""
        images = from_numpy(values[INPUT])
        for runner in self._runners:
            with self._running:
                logits = runner.logits(images)
            yield logits


def _agree(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> bool:
    if ours.shape != theirs.shape:
        return False
    return float(np.abs(ours - theirs).max()) <= TOLERANCE * max(1.0, float(np.abs(theirs).max()))
