"""A model under compression: what the steps of a recipe change, one after the other.

A Draft never touches the person's module. It holds the state dict's tensors (shared with the model
until a step replaces one), how each will be stored, and the structural edits so far. Every tensor
carries a version, a hash of what has been done to it, under which statistics are cached: a slider
that moves asks for the sorted magnitudes of the same version again and again.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from workbench.encodings.packing import Packing
from workbench.late import Late, Tensors
from workbench.models.channels import ChannelGraph, trace_channels
from workbench.models.edits import Edit, QuantizeInput, Slice, apply_edits, slice_tensors
from workbench.models.factors import Factorize, Uninitialized, WithProducts, factor_modules
from workbench.models.layers import Layer, output_axis
from workbench.models.removal import Remove, Shorten, is_inside, renamed
from workbench.models.tensors import load_tensors

from .context import Context
from .posterior import Posterior
from .storage import Storage

T = TypeVar("T")


class Cut(NamedTuple):
    """A tensor whose values of magnitudes up to ``threshold`` are zero, as it was ``before``, in that ``version``."""

    before: Tensor
    version: str
    threshold: float

    @property
    def is_cut(self) -> bool:
        """Whether anything may have been zeroed."""
        return self.threshold > -math.inf

    def left(self) -> NDArray[np.bool_]:
        """Return where a value is left; not where it is NaN."""
        return np.asarray(np.abs(self.before.numpy()) > np.float32(self.threshold))

    def values(self) -> Tensor:
        """Return the tensor, contiguous."""
        # In NumPy and on the bits: on one thread, since PyTorch's would wait for each other hundreds of
        # times in a deep model, and without the minus zero that -1 * 0 is.
        bits = np.ascontiguousarray(self.before.numpy()).view(np.uint32) * self.left()
        return torch.from_numpy(bits.view(np.float32))


class Draft:
    """The model between two steps; techniques change it through its methods."""

    def __init__(
        self,
        module: nn.Module,
        modules: Mapping[str, nn.Module],
        tensors: Mapping[str, Tensor],
        layers: tuple[Layer, ...],
        image_shape: tuple[int, ...],
        key: str,
        channels: Callable[[Callable[[], None]], ChannelGraph],
    ) -> None:
        self.original = module
        self._modules = dict(modules)
        self.image_shape = image_shape
        self.layers: dict[str, Layer] = {layer.name: layer for layer in layers}
        self.tensors = Tensors(tensors)
        self.stored: dict[str, Storage] = {}
        self.zeroed = Tensors()
        self.rewritten = Tensors()
        self.unrounded = Tensors()
        self.posteriors: dict[str, Posterior] = {}
        self.edits: list[Edit] = []
        self.thresholds: dict[str, float] = {}
        self.packing: dict[str, Packing] = {}
        self.notes: list[str] = []
        self._key = key
        self._uncut_channels = channels
        self._versions: dict[str, str] = {}
        self._cuts: dict[str, Cut] = {}
        self._kept: dict[tuple[int, ...], tuple[Tensor, str]] = {}
        self._unbuilt: dict[str, Factorize] = {}

    def version(self, tensor: str) -> str:
        """Return the hash of everything done to ``tensor`` so far."""
        found = self._versions.get(tensor)
        return f"{self._key}:{tensor}" if found is None else found

    def uncut(self, tensor: str) -> Cut:
        """Return what ``tensor`` was before its smallest values were zeroed, and up to which magnitude.

        A slider moves that magnitude, and what was found out of the tensor before still holds. The threshold of a
        tensor to which something else was done last is below all magnitudes.
        """
        found = self._cuts.get(tensor)
        return Cut(self.tensors[tensor], self.version(tensor), -math.inf) if found is None else found

    @property
    def key(self) -> str:
        """What tells the model, before any step, from others."""
        return self._key

    @property
    def touched(self) -> Collection[str]:
        """The tensors to which anything has been done."""
        return self._versions.keys()

    @property
    def state(self) -> str:
        """Return the hash of everything done to the model so far."""
        parts = [self._key, *(f"{name}={version}" for name, version in sorted(self._versions.items()))]
        parts += [repr(edit) for edit in self.edits]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def output_axis(self, layer: str) -> int:
        """Return the axis of the layer's weight that counts its outputs."""
        if layer in self._unbuilt:
            return 0
        return output_axis(self.module(layer))

    def module(self, layer: str) -> nn.Module:
        """Return the layer as the model has it; its tensors are those before any step."""
        for name in (layer, layer.rpartition(".")[0]):
            edit = self._unbuilt.pop(name, None)
            if edit is not None:
                self._build_links(edit)
        return self._modules[layer]

    def _build_links(self, edit: Factorize) -> None:
        """Make the links of a factorized layer; a slider, which asks for sizes, seldom needs them."""
        with torch.device("meta"), Uninitialized():
            chain = factor_modules(self._modules[edit.layer], edit)
        self._modules[edit.layer] = chain
        self._modules |= {f"{edit.layer}.{name}": link for name, link in chain.named_children()}

    @property
    def stacked(self) -> frozenset[str]:
        """The Linear layers that give several rows an image; a BatchNorm behind one may normalise the rows."""
        return frozenset(
            name for name, layer in self.layers.items() if layer.type == "Linear" and len(layer.output_shape) > 1
        )

    def is_tied(self, layer: str) -> bool:
        """Whether a tensor of the layer is another module's too."""
        return any(self._owners[id(tensor)] > 1 for tensor in self.module(layer).parameters(recurse=False))

    @cached_property
    def _owners(self) -> Counter[int]:
        return Counter(id(tensor) for part in self.original.modules() for tensor in part.parameters(recurse=False))

    def output_of(self, layer: str) -> str:
        """Return the module that gives the layer's output: of a chain of factors, the last link."""
        last = self.layers[layer].weights[-1].rpartition(".")[0]  # of tied layers, a module of another name
        return last if last.startswith(f"{layer}.") else layer

    def is_named_twice(self, module: nn.Module) -> bool:
        """Whether the model reaches ``module``, one of its own, by several names."""
        return self._names[id(module)] > 1

    @cached_property
    def _names(self) -> Counter[int]:
        return Counter(id(module) for _, module in self.original.named_modules(remove_duplicate=False))

    def set_tensor(self, name: str, value: Tensor, how: str) -> None:
        """Replace a tensor by float values; ``how`` says in a few words what made them."""
        self.tensors[name] = value
        self.stored.pop(name, None)
        self.unrounded.pop(name, None)
        self.posteriors.pop(name, None)
        self._bump(name, how)

    def rewrite(self, name: str, value: Tensor, how: str) -> None:
        """Replace a tensor by float values with which, beside others rewritten likewise, the model computes the same.

        ``rewritten`` keeps them: what later steps lose is measured against a model that has them.
        """
        self.set_tensor(name, value, how)
        self.rewritten[name] = value

    def store(self, name: str, storage: Storage, how: str, decoded: Tensor | Late | None = None) -> None:
        """Decide how a tensor is stored; its float value becomes ``decoded``, what ``storage.decode()`` gives.

        What it was before any rounding stays in ``unrounded``: training may begin with it.
        """
        if name not in self.stored:
            self.unrounded.hold(name, self.tensors.held(name))
        self.tensors.hold(name, storage.decode() if decoded is None else decoded)
        self.stored[name] = storage
        self._bump(name, how)

    def zero(self, name: str, pruned: Tensor, how: str) -> None:
        """Set the weights where ``pruned`` (bool, of its shape) is true to zero, in the same storage if it can."""
        # in NumPy and on the bits, for the reasons told in ``zero_small``
        bits = np.ascontiguousarray(self.tensors[name].numpy()).view(np.uint32) * ~pruned.numpy()
        self._replace(name, torch.from_numpy(bits.view(np.float32)), pruned)
        self._bump(name, how)

    def zero_small(self, name: str, threshold: float, how: str, spared: Tensor | None = None) -> None:
        """Set the weights of at most this magnitude to zero, keeping the grid if there is one.

        ``spared`` are flat places that keep their value all the same.
        """
        if spared is None and name not in self.stored:
            cut = self.uncut(name)
            cut = cut._replace(threshold=max(threshold, cut.threshold))
            self._replace(name, Late(cut.before.shape, cut.values), None)
            self._bump(name, how)
            self._cuts[name] = cut
            return
        before = self.tensors[name]
        values = Cut(before, "", threshold).values()
        if spared is not None:
            values.view(-1)[spared] = before.reshape(-1)[spared]
        self._replace(name, values, values == 0 if name in self.stored else None)
        self._bump(name, how)

    def slice(self, edit: Slice) -> None:
        """Keep only some channels of one side of a layer."""
        found = self._kept.get(edit.keep)
        if found is None:
            found = self._kept[edit.keep] = torch.tensor(edit.keep), f"slice {edit.keep}"
        keep, how = found
        beside = [kept for kept in (self.zeroed, self.rewritten, self.unrounded) if kept]
        for name, axis, places in slice_tensors(self.tensors, self.module(edit.layer), edit, keep):
            for kept in beside:
                if name in kept:
                    kept[name] = kept[name].index_select(axis, places)
            if name in self.posteriors:
                self.posteriors[name] = self.posteriors[name].sliced(axis, places)
            if name in self.stored:
                self._put(name, self.stored[name].sliced(axis, places))
            self._bump(name, f"{axis} {how}")
        self.edits.append(edit)

    def quantize_input(self, edit: QuantizeInput) -> None:
        """Quantize what enters a layer; a second time replaces the first."""
        self.edits = [
            other for other in self.edits if not (isinstance(other, QuantizeInput) and other.layer == edit.layer)
        ]
        self.edits.append(edit)

    def factorize(self, edit: Factorize, weights: Sequence[Tensor], how: str) -> None:
        """Put links with these ``weights`` in the place of a layer, whose bias goes to the last; see ``factors``.

        Later steps that name the layer act on the links.
        """
        layer = self.layers[edit.layer]
        base = self._version_after(layer.weight, how)
        self._remove(layer.weight)
        names = tuple(f"{edit.layer}.{place}.weight" for place in range(len(weights)))
        for name, weight in zip(names, weights, strict=True):
            self.tensors[name] = weight
            self._versions[name] = hashlib.sha256(f"{base}|{name}".encode()).hexdigest()
        bias = f"{edit.layer}.bias"
        if bias in self.tensors:
            moved = f"{edit.layer}.{len(weights) - 1}.bias"
            value, version, storage = self.tensors[bias], self._version_after(bias, "moved"), self.stored.get(bias)
            self._remove(bias)
            self.tensors[moved], self._versions[moved] = value, version
            self._put(moved, storage)
        self._unbuilt[edit.layer] = edit
        self.layers[edit.layer] = replace(layer, weight=names[0], shape=tuple(weights[0].shape), weights=names)
        if not isinstance(self.tensors, WithProducts):
            self.tensors = WithProducts(self.tensors)
        self.tensors.add(edit)
        rounded = [other for other in self.edits if isinstance(other, QuantizeInput) and other.layer == edit.layer]
        self.edits = [*(other for other in self.edits if other not in rounded), edit, *rounded]

    def remove(self, edit: Remove | Shorten) -> None:
        """Take a part of the model out, with all its tensors; earlier edits inside it are forgotten."""
        if isinstance(edit, Shorten):
            self._shorten(edit)
        else:
            for name in [name for name in self.tensors if is_inside(name, edit.layer)]:
                self._remove(name)
            self.layers = {name: layer for name, layer in self.layers.items() if not is_inside(name, edit.layer)}
            self.edits = [other for other in self.edits if not is_inside(other.layer, edit.layer)]
        self.edits.append(edit)

    def _shorten(self, edit: Shorten) -> None:
        own = [name for name in self.tensors if name.rpartition(".")[0] == edit.layer]
        taken = {name: (self.tensors[name], self.stored.get(name), self.zeroed.get(name)) for name in own}
        versions = {name: self._version_after(name, "moved") for name in own}
        names = renamed([name.rpartition(".")[2] for name in own], edit.keep)
        moved = {f"{edit.layer}.{old}": f"{edit.layer}.{new}" for old, new in names.items()}
        for name in own:
            if moved.get(name) != name:
                self._remove(name)
        for name, new in moved.items():
            if name != new:
                self.tensors[new], storage, zeroed = taken[name]
                self._put(new, storage)
                self._versions[new] = versions[name]
                if zeroed is not None:
                    self.zeroed[new] = zeroed
        layer = self.layers[edit.layer]
        weights = tuple(moved[name] for name in layer.weights if name in moved)
        self.layers[edit.layer] = replace(layer, weight=weights[0], weights=weights)

    def channels(self, context: Context) -> ChannelGraph:
        """Return the channel groups of the present structure, traced once and cached."""
        structure = tuple(edit for edit in self.edits if not isinstance(edit, QuantizeInput))
        if not structure:
            return self._uncut_channels(context.check)
        key = ("channels", self._key, structure)
        return context.cache.get(key, lambda: trace_channels(self.build(structure), self.image_shape, context.check))

    def build(self, edits: tuple[Edit, ...] | None = None) -> nn.Module:
        """Return a private module with the present tensors and edits, in eval mode."""
        module = copy.deepcopy(self.original).eval()
        apply_edits(module, self.edits if edits is None else edits)
        load_tensors(module, self.tensors)
        return module

    def uncompressed(self) -> nn.Module:
        """Return the model as it came, in the present structure and rewritten as it is, with nothing lost.

        Factorized layers are whole again, unless channels were removed inside them.
        """
        factorized = {edit.layer for edit in self.edits if isinstance(edit, Factorize)}
        cut = {edit.layer.rpartition(".")[0] for edit in self.edits if isinstance(edit, Slice)}
        whole = factorized.isdisjoint(cut)
        edits = [
            edit
            for edit in self.edits
            if not (isinstance(edit, QuantizeInput) or (whole and isinstance(edit, Factorize)))
        ]
        module = copy.deepcopy(self.original).eval()
        apply_edits(module, edits)
        names = module.state_dict().keys()
        weights = () if whole else [name for layer in factorized for name in self.layers[layer].weights]
        links = {name: self.tensors[name] for name in weights}
        given = {**links, **{name: value for name, value in self.rewritten.items() if name in names}}
        module.load_state_dict(given, strict=False)
        return module

    def _replace(self, name: str, values: Tensor | Late, pruned: Tensor | None) -> None:
        """Set a tensor some of whose values became zero: those where ``pruned`` is true."""
        self.tensors.hold(name, values)
        self.zeroed.hold(name, values)
        if pruned is not None and name in self.stored:
            self._put(name, self.stored[name].masked(pruned))

    def _put(self, name: str, storage: Storage | None) -> None:
        if storage is None:
            self.stored.pop(name, None)
        else:
            self.stored[name] = storage

    def _bump(self, name: str, how: str) -> None:
        self._versions[name] = self._version_after(name, how)
        self._cuts.pop(name, None)

    def _version_after(self, name: str, how: str) -> str:
        return hashlib.sha256(f"{self.version(name)}|{how}".encode()).hexdigest()

    def _remove(self, name: str) -> None:
        del self.tensors[name]
        self.stored.pop(name, None)
        self.zeroed.pop(name, None)
        self.unrounded.pop(name, None)
        self.posteriors.pop(name, None)
        self._versions.pop(name, None)
        self._cuts.pop(name, None)
        self.packing.pop(name, None)
