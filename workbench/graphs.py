"""The ONNX graphs of one model: as it is, and exported anew where exchanging its tensors is not enough.

Channels, values and factors are put into the graph that was exported first. Where whole blocks were taken out,
or heads of an attention whose code writes their number into the graph, the changed module is exported: once for
each structure.
"""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections import OrderedDict
from collections.abc import Callable, Container, Hashable
from functools import cached_property

from torch import nn

from workbench.compressed import CompressedModel
from workbench.models.edits import Edit, Slice, apply_edits
from workbench.models.removal import Remove, Shorten
from workbench.run.onnx_export import export_graph
from workbench.run.onnx_graph import ExportError, OnnxGraph
from workbench.subject import Subject

#: Structures whose graphs are kept.
KEPT = 16


class Graphs:
    """Gives each compressed version of ``subject`` its graph.

    The model's own is ``known``, or ``find`` finds it: None where it has none. May be used from any thread.
    """

    def __init__(self, subject: Subject, find: Callable[[], OnnxGraph | None], known: OnnxGraph | None = None) -> None:
        self._find_plain = find
        self._found: tuple[OnnxGraph | None] | None = None if known is None else (known,)
        self._finding = threading.Lock()
        self._subject = subject
        self._exported: OrderedDict[Hashable, OnnxGraph | None] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def plain(self) -> OnnxGraph | None:
        """The model's own graph, found when first asked for: that takes seconds where a model is deep."""
        return self.find()

    def find(self) -> OnnxGraph | None:
        """Return ``plain``, found now where it was not yet."""
        with self._finding:
            if self._found is None:
                self._found = (self._find_plain(),)
            return self._found[0]

    @property
    def are_known(self) -> bool:
        """Whether nothing is to be waited for any more."""
        return self._found is not None

    def of(self, compressed: CompressedModel) -> OnnxGraph | None:
        """Return the graph of ``compressed``, without its tensors; None where it doesn't export."""
        if self.plain is None:
            return None
        edits = self._rebuilding(compressed)
        graph = self._export(edits) if edits else self.plain
        return None if graph is None else graph.factorized(compressed.chains)

    def exports(self, compressed: CompressedModel) -> bool:
        """Whether ``compressed`` has a graph of its own, whose nodes are others than the model's."""
        return self.plain is not None and bool(self._rebuilding(compressed))

    def _rebuilding(self, compressed: CompressedModel) -> tuple[Edit, ...]:
        return rebuilding(compressed, self._attentions)

    @cached_property
    def _attentions(self) -> frozenset[str]:
        return attentions_of(self._subject.model.module)

    def _export(self, edits: tuple[Edit, ...]) -> OnnxGraph | None:
        # which heads are left is in the tensors: the graph only knows how many
        key = tuple((edit.layer, len(edit.keep)) if isinstance(edit, Slice) else edit for edit in edits)
        with self._lock:
            if key not in self._exported:
                try:
                    self._exported[key] = export_edited(self._subject.model.module, edits, self._subject.image_shape)
                except ExportError:
                    self._exported[key] = None
                while len(self._exported) > KEPT:
                    self._exported.popitem(last=False)
            self._exported.move_to_end(key)
            return self._exported[key]


def rebuilding(compressed: CompressedModel, attentions: Container[str]) -> tuple[Edit, ...]:
    """Return the edits of ``compressed`` that the graph exported from its original module cannot follow.

    ``attentions`` are the names that ``attentions_of`` gives for that module.
    """
    return tuple(
        edit
        for edit in compressed.edits
        if isinstance(edit, Remove | Shorten) or (isinstance(edit, Slice) and edit.layer in attentions)
    )


def resizing(compressed: CompressedModel) -> tuple[Edit, ...]:
    """Return the edits that give a module the sizes of ``compressed``, factorized layers as wholes."""
    whole = {f"{layer}.{place}": layer for layer, edit in compressed.factors.items() for place in (0, len(edit.ranks))}
    return tuple(
        dataclasses.replace(edit, layer=whole.get(edit.layer, edit.layer)) if isinstance(edit, Slice) else edit
        for edit in compressed.edits
        if isinstance(edit, Slice | Remove | Shorten)
    )


def attentions_of(module: nn.Module) -> frozenset[str]:
    """Return the names of the attentions in ``module``."""
    modules = module.named_modules(remove_duplicate=False)
    return frozenset(name for name, part in modules if isinstance(part, nn.MultiheadAttention))


def export_edited(module: nn.Module, edits: tuple[Edit, ...], image_shape: tuple[int, ...]) -> OnnxGraph:
    """Return the graph of ``module`` with ``edits``; raise ``ExportError`` where it has none."""
    changed = copy.deepcopy(module)
    apply_edits(changed, edits)
    return export_graph(changed, image_shape)
