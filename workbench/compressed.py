"""A compressed model: the original architecture, structural edits, and an archive of encoded tensors.

Its size is the archive's size; its module is built from what the archive decodes to, so that what is measured
is what is saved.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.encodings import Archive, Encoding
from workbench.errors import WorkbenchError
from workbench.late import Tensors, held, size_of
from workbench.measure.pictures import WeightPair
from workbench.measure.weights import ChannelSummary, WeightSummary, summarize_channels, summarize_weights
from workbench.models.edits import (
    BinarizeInput,
    Edit,
    QuantizeInput,
    QuantizeInputByBatch,
    Slice,
    apply_edits,
    channels_of,
    edit_to_json,
)
from workbench.models.factors import Factorize, factor_macs, links
from workbench.models.fewer_heads import takes_fewer_heads
from workbench.models.layers import Layer, output_axis
from workbench.models.removal import Shorten
from workbench.models.tensors import load_tensors
from workbench.recipe import Recipe
from workbench.run.onnx_factors import Chain
from workbench.run.onnx_file import IntegerWeight
from workbench.run.onnx_grids import InputGrid
from workbench.run.onnx_tables import Table
from workbench.subject import Subject
from workbench.techniques.as_table import as_table
from workbench.techniques.draft import Draft
from workbench.techniques.order import remarks
from workbench.techniques.posterior import Posterior
from workbench.techniques.storage import Cast, Codes, Storage


@dataclass(frozen=True)
class LayerFigures:
    """One layer of a compressed model, as the table and the CLI show it.

    ``shape``, ``params`` and ``macs`` (per image) are of the compressed layer; ``sparsity`` is the
    share of zeros in its weights; ``bits`` what a stored weight is written in; ``bytes`` its share of
    the archive.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    params: int
    macs: int
    sparsity: float
    bits: float
    bytes: int


class CompressedModel:
    """What a recipe made of a model.

    ``archive`` is what is stored, ``tensors`` what it decodes to, ``edits`` the structural changes,
    ``layers`` the table of figures. ``thresholds`` maps a layer to the magnitude below which its
    weights were pruned; ``notes`` are sentences for the person.
    """

    def __init__(self, subject: Subject, recipe: Recipe, draft: Draft, encoded: Mapping[str, Encoding]) -> None:
        self.recipe = recipe
        self.edits: tuple[Edit, ...] = tuple(draft.edits)
        self.factors = {edit.layer: edit for edit in self.edits if isinstance(edit, Factorize)}
        self.tensors: Tensors = draft.tensors
        self.thresholds: Mapping[str, float] = draft.thresholds
        self.notes: tuple[str, ...] = (*draft.notes, *remarks(recipe.steps))
        self.grids = input_grids(self.edits)
        self._stacked = frozenset(edit.layer for edit in self.edits if isinstance(edit, Shorten))
        self.stored: Mapping[str, Storage] = draft.stored
        self.posteriors: Mapping[str, Posterior] = draft.posteriors
        self._version = draft.version
        self._present: Mapping[str, Layer] = draft.layers
        self._subject = subject
        self._encoded = encoded

    @cached_property
    def codes(self) -> Mapping[str, Codes]:
        """Weights on a uniform grid, by name."""
        return {name: storage for name, storage in self.stored.items() if isinstance(storage, Codes)}

    @cached_property
    def casts(self) -> Mapping[str, torch.dtype]:
        """The 16-bit float types of weights stored so, by name."""
        return {name: storage.dtype for name, storage in self.stored.items() if isinstance(storage, Cast)}

    @cached_property
    def integers(self) -> Mapping[str, IntegerWeight]:
        """Weights on a uniform grid, as an ONNX file keeps them, by name."""
        return {
            name: IntegerWeight(one.codes, one.scale, one.zero_point, one.axis, one.bits, one.group)
            for name, one in self.codes.items()
        }

    @cached_property
    def halves(self) -> frozenset[str]:
        """The names of weights stored as fp16, which an ONNX file keeps so."""
        return frozenset(name for name, dtype in self.casts.items() if dtype == torch.float16)

    @cached_property
    def tables(self) -> Mapping[str, Table]:
        """Weights whose values are looked up in a table, as an ONNX file keeps them, by name."""
        found = ((name, as_table(storage)) for name, storage in self.stored.items())
        return {name: table for name, table in found if table is not None}

    @cached_property
    def chains(self) -> tuple[Chain, ...]:
        """What runs in the place of each factorized layer."""
        axes = {layer.name: len(layer.shape) - 2 for layer in self._subject.layers}
        return tuple(
            Chain(layer, tuple((link.axes, link.grouped) for link in links(edit.scheme, axes[layer])))
            for layer, edit in self.factors.items()
        )

    @cached_property
    def versions(self) -> Mapping[str, str]:
        """Tensor name → a hash of what was done to it."""
        found = {name: self._version(name) for name in self.tensors}
        for layer, edit in self.factors.items():
            names = self._present[layer].weights
            found[f"{layer}.weight"] = f"{edit.scheme} of {' '.join(found[name] for name in names)}"
        return found

    @cached_property
    def archive(self) -> Archive:
        """The packed form: header and encoded tensors."""
        model = self._subject.model
        return Archive(
            tensors=self._encoded,
            model={"name": model.name, "origin": model.origin, "architecture": type(model.module).__name__},
            recipe=self.recipe.to_data(),
            edits=[edit_to_json(edit) for edit in self.edits],
        )

    @property
    def masked(self) -> bool:
        """Whether single weights were set to zero on purpose; quantizing rounds some to zero too."""
        return bool(self.thresholds) or any(
            step.technique == "prune" and not all(getattr(settings, "removes", False) for settings in step.everything)
            for step in self.recipe.steps
        )

    @property
    def nbytes(self) -> int:
        """Size of the saved file in bytes."""
        return self.archive.nbytes

    @cached_property
    def module(self) -> nn.Module:
        """A module with the decoded tensors, in eval mode."""
        decoded = {name: torch.from_numpy(array) for name, array in self.archive.decode().items()}
        return build_module(self._subject.model.module, self.edits, decoded)

    @cached_property
    def layers(self) -> tuple[LayerFigures, ...]:
        """Figures of each layer, in call order."""
        return tuple(self._figures(layer) for layer in self._subject.layers)

    def fresh_module(self, inputs: bool = True) -> nn.Module:
        """Return a module of its own to run; ``inputs=False`` leaves quantized inputs unrounded."""
        edits = [edit for edit in self.edits if inputs or not isinstance(edit, QuantizeInput)]
        return build_module(self._subject.model.module, edits, self.tensors)

    def save(self, path: str | Path) -> Path:
        """Write the ``.wbz`` file, replacing ``path`` only once it is whole; return its path."""
        return self.archive.save(path)

    def summarize(self, layer: str, bins: int = 64) -> WeightSummary:
        """Return the distribution of a layer's weights before and after; unknown names raise ``WorkbenchError``."""
        found = self._layer(layer)
        storage = self.stored.get(found.weight)
        levels = storage.levels() if storage is not None else None
        return summarize_weights(
            layer,
            [self._subject.tensors[name] for name in found.weights],
            self.weights_of(layer),
            self.thresholds.get(layer),
            levels.numpy() if levels is not None else None,
            self._bits(layer) if layer in self._present else None,
            bins,
            storage.grids if storage is not None else 1,
        )

    def weights_of(self, layer: str) -> list[Tensor]:
        """Return the weights that the layer still has; of one that was removed, an empty tensor."""
        found = self._layer(layer)
        factorized = layer in self.factors  # whose product goes by the old name
        present = [self.tensors[name] for name in found.weights if factorized or name in self.tensors]
        return present or [self._subject.tensors[found.weight][:0]]

    def summarize_channels(self, layer: str) -> ChannelSummary:
        """Return what the weights of each output channel span, before and after; errors as ``weight_pair``."""
        found = self._present_layer(layer)
        axis = self._output_axis(layer)
        before, codes = self._subject.tensors[found.weight], self.codes.get(found.weight)
        kept = self._kept(found, axis)
        steps = codes.steps if codes is not None else None
        return summarize_channels(
            layer, before, self.tensors[found.weight], axis, kept, self.thresholds.get(layer), steps
        )

    def weight_pair(self, layer: str) -> WeightPair:
        """Return the layer's main weight before and after, outputs first.

        Raises ``WorkbenchError`` for unknown names, and for a layer that the recipe removed.
        """
        found = self._present_layer(layer)
        axis = self._output_axis(layer)
        image = self._subject.image_shape
        reads_image = (
            found is self._subject.layers[0]
            and found.type == "Linear"
            and len(image) == 3
            and found.shape[1] == math.prod(image)
        )
        return WeightPair(
            layer,
            self._subject.tensors[found.weight].movedim(axis, 0),
            self.tensors[found.weight].movedim(axis, 0),
            self._kept(found, axis),
            self._kept(found, 1 - axis),
            f"{self._subject.hash}:{found.weight}",
            self.versions[found.weight],
            image if reads_image else None,
        )

    def _output_axis(self, layer: str) -> int:
        return output_axis(self._subject.model.module.get_submodule(layer))

    def _kept(self, layer: Layer, axis: int) -> Tensor:
        """Return the numbers that the remaining channels along an axis of the layer's weight had before."""
        module = self._subject.model.module.get_submodule(layer.name)
        tensor = layer.weight.rpartition(".")[2]
        kept = torch.arange(self._subject.tensors[layer.weight].shape[axis])
        for edit in self.edits:
            if isinstance(edit, Slice) and edit.layer == layer.name:
                if takes_fewer_heads(module) and axis == 0:
                    kept = kept[torch.tensor(edit.keep)]
                    continue
                places = channels_of(module, edit.side)
                if places is not None and places.axes.get(tensor) == axis:
                    keep = torch.tensor(edit.keep)
                    kept = kept[keep[keep < len(kept)]]  # a grouped convolution's weight counts one group's inputs
        return kept

    def _layer(self, name: str) -> Layer:
        found = next((item for item in self._subject.layers if item.name == name), None)
        if found is None:
            names = ", ".join(item.name for item in self._subject.layers[:6])
            raise WorkbenchError(f"There is no layer '{name}'; the first ones are {names}.")
        return found

    def _present_layer(self, name: str) -> Layer:
        found = self._layer(name)
        if name not in self._present:
            raise WorkbenchError(f"Layer '{name}' was removed by the recipe: it has no weights left to show.")
        return found

    def _figures(self, layer: Layer) -> LayerFigures:
        present = self._present.get(layer.name)
        if present is None:
            gone = (0, *layer.shape[1:])
            return LayerFigures(layer.name, f"{layer.type} (removed)", gone, 0, 0, 0.0, 32.0, 0)
        count = sum(size_of(self.tensors, name) for name in present.weights)
        zeros = count - sum(map(self._nonzero, present.weights))
        own = self._own(layer.name)
        edit = self.factors.get(layer.name)
        return LayerFigures(
            name=layer.name,
            type=layer.type if edit is None else f"{layer.type} ({edit.scheme} {'-'.join(map(str, edit.ranks))})",
            shape=self._dense_shape(layer),
            params=sum(size_of(self.tensors, name) for name in own),
            macs=self._macs(layer),
            sparsity=zeros / count if count else 0.0,
            bits=self._bits(layer.name),
            bytes=sum(self._encoded[name].entry.nbytes for name in own),
        )

    def _nonzero(self, weight: str) -> int:
        """Return how many values of a weight are not zero."""
        storage = self.stored.get(weight)
        found = storage.nonzero if storage is not None else None
        return int(np.count_nonzero(self.tensors[weight].numpy() != 0)) if found is None else found

    def _bits(self, layer: str) -> float:
        """Return the bits of a stored weight: the main one's, and over the links of a chain their mean."""
        names = self._present[layer].weights if layer in self.factors else (self._present[layer].weight,)
        bits = [self.stored[name].bits if name in self.stored else 32 for name in names]
        if len(bits) == 1:
            return bits[0]
        sizes = [size_of(self.tensors, name) for name in names]
        return sum(bit * size for bit, size in zip(bits, sizes, strict=True)) / max(1, sum(sizes))

    def _own(self, layer: str) -> tuple[str, ...]:
        """Return the names of the layer's tensors, those of its links where it was factorized."""
        if layer not in self.factors:
            return tuple(name for name in self._subject.own_tensors[layer] if name in self.tensors)
        return tuple(self._links[layer])

    @cached_property
    def _links(self) -> Mapping[str, Sequence[str]]:
        """Factorized layer → the names of its links' tensors, such as ``conv.0.weight``; others do not matter."""
        found: dict[str, list[str]] = defaultdict(list)
        for name in self.tensors:
            found[name.rsplit(".", 2)[0]].append(name)
        return found

    def _dense_shape(self, layer: Layer) -> tuple[int, ...]:
        if layer.name not in self.factors:
            return tuple(held(self.tensors, layer.weight).shape)
        names = self._present[layer.name].weights
        return len(self.tensors[names[-1]]), self.tensors[names[0]].shape[1], *layer.shape[2:]

    def _macs(self, layer: Layer) -> int:
        edit = self.factors.get(layer.name)
        if edit is None:
            # removing channels scales a layer's MACs as it scales its weights: positions stay the same
            return round(layer.macs * self._share_left(layer))
        module = self._subject.model.module.get_submodule(layer.name)
        axes = len(layer.shape) - 2
        places = math.prod(layer.output_shape[-axes:]) if axes else 1
        calls = layer.macs / max(1, math.prod(layer.shape) * places)
        weights = [self.tensors[name] for name in self._present[layer.name].weights]
        return factor_macs(module, edit, weights, layer.input_shape[-axes:] if axes else (), calls)

    def _share_left(self, layer: Layer) -> float:
        """Return the share that is left of the layer's weights: of all of a recurrent one, else of the main one."""
        names = layer.weights if layer.name in self._stacked else (layer.weight,)
        before = sum(self._subject.tensors[name].numel() for name in names)
        return sum(size_of(self.tensors, name) for name in names if name in self.tensors) / max(1, before)


def input_grids(edits: Iterable[Edit]) -> dict[str, InputGrid]:
    """Return layer → the grid on which what enters it is rounded."""
    return {edit.layer: _grid(edit) for edit in edits if isinstance(edit, QuantizeInput)}


def _grid(edit: QuantizeInput) -> InputGrid:
    centre = edit.centre if isinstance(edit, BinarizeInput) else None
    return InputGrid(edit.bits, edit.scale, edit.zero_point, isinstance(edit, QuantizeInputByBatch), centre)


def build_module(original: nn.Module, edits: Any, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of ``original`` with ``edits`` made and ``tensors`` in it."""
    module = copy.deepcopy(original).eval()
    apply_edits(module, edits)
    floats = {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in tensors.items()}
    load_tensors(module, floats)
    return module
