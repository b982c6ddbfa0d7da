"""Running a compressed model over a split, a little at a time.

The images are run in the sampler's nested order, so that every look is a prefix. ONNX Runtime computes
where the model exports and gives PyTorch's answers, checked on a few images for every new structure;
PyTorch computes where it doesn't.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.compressed import CompressedModel
from workbench.data.dataset import Normalization, Split
from workbench.graphs import Graphs
from workbench.measure.sampling import Figures, Sampler
from workbench.models.edits import Edit, QuantizeInput
from workbench.run.onnx_export import export_graph
from workbench.run.onnx_graph import ExportError, OnnxGraph
from workbench.run.prefix import Prefix, PrefixRunner, deepest_shared
from workbench.run.runner import OnnxRunner, Runner, TorchRunner
from workbench.subject import Subject

#: Images a batch: small enough to give up quickly, large enough to keep both cores busy.
BATCH = 64
#: Images kept normalised in memory, at most; beyond it each batch is normalised when it is run.
PREPARED_BYTES = 256 * 2**20
#: Largest difference between the runtimes' logits, relative to the largest logit.
TOLERANCE = 1e-3

Logits = NDArray[np.float32]
Check = Callable[[], None]


class Evaluator:
    """Evaluates compressed versions of one subject on one split; ``graph`` is the subject's, where it is known."""

    def __init__(
        self, subject: Subject, split: Split, normalization: Normalization, graph: OnnxGraph | None = None
    ) -> None:
        self.subject = subject
        self.split = split
        self._normalize = normalization
        self._confirmed: dict[tuple[Edit, ...], bool] = {}
        self._order: Tensor | None = None
        self._prepared: tuple[Tensor | None, Tensor] | None = None  # the order that they are in, and the images
        self._previous: dict[str, str] = {}
        self._prefix: Prefix | None = None
        self._work = {layer.weight: layer.macs for layer in subject.layers}
        self._weights = {layer.name: layer.weights for layer in subject.layers}
        self.why_torch = ""
        self.graphs = Graphs(subject, self._export, graph)

    @property
    def graph(self) -> OnnxGraph | None:
        """The model's ONNX graph, None where it doesn't export."""
        return self.graphs.plain

    @property
    def runtime(self) -> str:
        """What runs the images; as with the graph, the first to ask waits while it is found."""
        return "onnxruntime" if self.graph else "torch"

    def runner(self, compressed: CompressedModel, check: Callable[[], None] = lambda: None) -> Runner:
        """Return what computes the compressed model's logits; ``check`` may raise before a runtime loads it."""
        graph = self.graphs.of(compressed)
        if graph is None or not self._trusts(compressed) or not graph.takes(compressed.grids):
            return TorchRunner(compressed.fresh_module())
        model = graph.build(compressed.tensors, compressed.grids)
        check()
        prefix = self._shared_prefix(graph, compressed)
        return OnnxRunner(model) if prefix is None else PrefixRunner(model, prefix)

    def free_runner(self, compressed: CompressedModel) -> Runner:
        """Return what computes logits for work beside the sliders: nothing is shared with other runners."""
        graph = self.graphs.of(compressed)
        if graph is None or not self._confirmed.get(_structure(compressed), True) or not graph.takes(compressed.grids):
            return TorchRunner(compressed.fresh_module())
        try:
            return OnnxRunner(graph.build(compressed.tensors, compressed.grids))
        except Exception:  # a structure the runtime cannot load; PyTorch can
            return TorchRunner(compressed.fresh_module())

    def set_order(self, order: NDArray[np.int64]) -> None:
        """Run images in this order from now on."""
        self._order = torch.from_numpy(np.ascontiguousarray(order))
        self._prepared = self._prefix = None

    def batches(
        self, runner: Runner, start: int = 0, stop: int | None = None, check: Check = lambda: None
    ) -> Iterator[Logits]:
        """Yield the logits of images ``start..stop`` of the order; ``check``, called before each batch, may raise."""
        stop = len(self.split) if stop is None else stop
        for first in range(start, stop, BATCH):
            check()
            images = self.images(first, min(first + BATCH, stop))
            yield runner.logits(images, first) if isinstance(runner, PrefixRunner) else runner.logits(images)

    def images(self, first: int, last: int) -> Tensor:
        """Return images ``first..last`` of the order, normalised, ``(n, C, H, W)``."""
        order, prepared = self._order, self._prepared
        if self.split.images[0].numel() * 4 * len(self.split) > PREPARED_BYTES:
            return self._normalize(self._gather(first, last)).contiguous()
        if prepared is None or prepared[0] is not order:  # another thread may prepare them while the order changes
            every = self.split.images if order is None else self.split.images[order]
            self._prepared = prepared = order, self._normalize(every).contiguous()
        return prepared[1][first:last]

    def run_images(self, runner: Runner, indices: NDArray[np.int64]) -> Logits:
        """Return the logits of these images of the split ``(n, classes)``."""
        if not len(indices):
            return np.empty((0, 1), np.float32)
        return runner.logits(self._normalize(self.split.images[torch.from_numpy(indices)]).contiguous())

    def correct(self, runner: Runner, check: Check = lambda: None) -> int:
        """Return how many of the split's images are told right; ``check`` is called between batches, and may raise."""
        labels = self.split.labels if self._order is None else self.split.labels[self._order]
        right = seen = 0
        for logits in self.batches(runner):
            check()
            valid = ~np.isnan(logits).any(1)
            right += int(((logits.argmax(1) == labels[seen : seen + len(logits)].numpy()) & valid).sum())
            seen += len(logits)
        return right

    def looks(self, runner: Runner, sampler: Sampler, check: Check) -> Iterator[tuple[Figures, Logits]]:
        """Yield the figures at each look of ``sampler``, with the logits so far; the last is exact."""
        collected: list[Logits] = []
        done = 0
        for look in sampler.looks:
            collected.extend(self.batches(runner, done, look, check))
            done = look
            collected = [np.concatenate(collected)]
            yield sampler.estimate(collected[0], look), collected[0]

    def is_random(self) -> bool:
        """Whether the dense model answers the same images differently each time, as with dropout that is left on."""
        if self.graph is not None:  # which answered as the module did
            return False
        images = self._normalize(self._gather(0, min(4, len(self.split)))).contiguous()
        runner = TorchRunner(copy.deepcopy(self.subject.model.module))
        first, second = runner.logits(images), runner.logits(images)
        scale = max(1.0, float(np.nanmax(np.abs(first), initial=0.0)))
        return bool((np.abs(first - second) > TOLERANCE * scale).any())

    def _shared_prefix(self, graph: OnnxGraph, compressed: CompressedModel) -> Prefix | None:
        """Return the activations that this setting shares with the previous one, where that pays."""
        if compressed.factors or self.graphs.exports(compressed):
            self._previous = {}
            return None
        versions = dict(compressed.versions)
        for layer, grid in compressed.grids.items():
            for weight in self._weights[layer]:  # of a recurrent layer and of attention under names of their own
                versions[weight] = f"{versions.get(weight)} on {grid} in {layer}"
        previous, self._previous = self._previous, versions
        cut = deepest_shared(graph.cuts, versions, previous, self._work)
        if cut is None:
            return None
        key = (cut.value, *(versions[name] for name in sorted(cut.before)))
        if self._prefix is None or self._prefix.key != key:
            self._prefix = Prefix(key, cut)
        return self._prefix

    def _gather(self, first: int, last: int) -> Tensor:
        if self._order is None:
            return self.split.images[first:last]
        return self.split.images[self._order[first:last]]

    def _export(self) -> OnnxGraph | None:
        """Return the model's graph, if it can be written and answers as the module does."""
        module = self.subject.model.module
        try:
            graph = export_graph(module, self.subject.image_shape)
        except ExportError as error:
            self.why_torch = str(error)
            return None
        return graph if self._compare(graph, module.state_dict(), copy.deepcopy(module)) else None

    def confirm(self, compressed: CompressedModel) -> bool:
        """Whether both runtimes give the same answers for this structure; compared once for each.

        Where they don't, PyTorch runs this structure from then on.
        """
        structure = _structure(compressed)
        graph = self.graphs.of(compressed)
        if graph is None or not structure:
            return True
        if structure not in self._confirmed:
            # without input grids: rounding turns differences of 1e-7 into whole steps
            module = compressed.fresh_module(inputs=False)
            self._confirmed[structure] = self._compare(graph, compressed.tensors, module)
        return self._confirmed[structure]

    def _trusts(self, compressed: CompressedModel) -> bool:
        """Whether to run a structure in ONNX Runtime: the first one is compared beforehand, later ones
        afterwards (``confirm``), since comparing takes as long as the first sampled figure may."""
        if not self._confirmed:
            return self.confirm(compressed)
        return self._confirmed.get(_structure(compressed), True)

    def _compare(self, graph: OnnxGraph, tensors: Mapping[str, Tensor], module: nn.Module) -> bool:
        images = self._normalize(self._gather(0, min(4, len(self.split)))).contiguous()
        try:
            ours = OnnxRunner(graph.build(tensors)).logits(images)
        except Exception as error:  # a graph that fixes channel counts fails inside the runtime in many ways
            self.why_torch = f"ONNX Runtime cannot run this structure ({str(error).splitlines()[0][:120]})"
            return False
        theirs = TorchRunner(module).logits(images)
        scale = max(1.0, float(np.abs(theirs).max()))
        if ours.shape != theirs.shape or not float(np.abs(ours - theirs).max()) <= TOLERANCE * scale:
            self.why_torch = "ONNX Runtime and PyTorch differ on this structure"
            return False
        return True


def _structure(compressed: CompressedModel) -> tuple[Edit, ...]:
    return tuple(edit for edit in compressed.edits if not isinstance(edit, QuantizeInput))
