"""Low-rank factorization of Linear and convolutional layers.

A truncated singular value decomposition (Eckart and Young 1936) makes of a Linear two, of a convolution one
with fewer filters and a 1×1 (Denton et al. 2014; Zhang et al. 2016, which also weighs by the data). A
convolution can also become three or more, by Tucker, CP or tensor-train decomposition. A layer that would not
become smaller is left as it is, and a note says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from workbench.errors import WorkbenchError
from workbench.models.factors import Factorize, Scheme, irreplaceable, refusal
from workbench.run.moments import has_columns
from workbench.run.second_moments import second_moments

from ..base import Cost, Dial, Settings, Technique, When
from ..context import Context
from ..draft import Draft
from .spectrum import Spectrum, spectrum_of
from .tensors import Hosvd, attained, decompose, full_ranks, ranks_for, weights_of, widths_of

#: Ranks, the links' weights, and what made them.
Links: TypeAlias = tuple[tuple[int, ...], tuple[Tensor, ...], str]


class FactorizeSettings(Settings):
    """Settings of ``factorize``."""

    added: ClassVar[frozenset[str]] = frozenset({"scheme"})
    when: ClassVar[Mapping[str, When]] = {
        "energy": {"scheme": ("svd",)},
        "weighted": {"scheme": ("svd",)},
        "images": {"scheme": ("svd",), "weighted": (True,)},
    }

    alternatives: ClassVar[tuple[str, ...]] = ("size", "energy", "rank")

    scheme: Scheme = Field(
        "svd",
        description="Two links (svd), or for convolutions: fewer channels before and after the kernel (tucker2), "
        "along its axes too (tucker), one filter an axis (cp, which takes seconds), or a train of axes (tt).",
    )
    size: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Weights of the factors, as a share of the layer's own; 1 leaves the layer as it is.",
    )
    energy: float | None = Field(
        None, gt=0, le=1, description="Keep so much of the sum of squared singular values, instead of a size."
    )
    rank: int | None = Field(
        None, ge=1, le=65536, description="Keep so many singular values, or components of each kind, instead of a size."
    )
    weighted: bool = Field(
        False, description="Come nearest in what the layer gives on calibration data, rather than in its weights."
    )
    multiple: int = Field(1, ge=1, le=64, description="Round the rank to a multiple of so many, which kernels prefer.")
    images: int = Field(256, ge=1, le=100_000, description="Calibration images to look at, at most (weighted).")

    @model_validator(mode="after")
    def _one_measure(self) -> FactorizeSettings:
        given = [name for name in ("size", "energy", "rank") if name in self.model_fields_set]
        given = [name for name in given if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each set the rank; give one of them")
        if self.scheme != "svd" and (self.energy is not None or self.weighted):
            what = "energy" if self.energy is not None else "weighted"
            raise ValueError(f"{what} belongs to scheme svd, not to {self.scheme}; leave it out or choose svd")
        return self


def apply(draft: Draft, settings: Mapping[str, FactorizeSettings], context: Context) -> None:
    """Factorize each layer that becomes smaller by it; the notes name the others."""
    larger: list[str] = []
    refused: list[str] = []
    chosen = {name: item for name, item in settings.items() if item != _as_it_is(item)}
    for name, reason in _refusals(draft, chosen, context).items():
        refused.append(f"{name} ({reason})")
        del chosen[name]
    moments = _moments(draft, chosen, context)
    for name, item in chosen.items():
        context.check()
        if item.scheme == "svd":
            ranks, links, how = _two_links(draft, name, item, moments.get(name), context)
        else:
            ranks, links, how = _chain(draft, name, item, context)
        if not links:
            larger.append(f"{name} (rank {' × '.join(map(str, ranks))})")
            continue
        draft.factorize(Factorize(name, item.scheme, ranks), links, how)
    if larger:
        draft.notes.append(f"Left as they are, since factors would not be smaller: {', '.join(larger)}.")
    if refused:
        draft.notes.append(f"Not factorized: {', '.join(refused)}.")


def _two_links(
    draft: Draft, name: str, item: FactorizeSettings, moment: tuple[str, Tensor] | None, context: Context
) -> Links:
    """Return the rank, the two links' weights (none where they would not be fewer), and what made them."""
    weight = draft.tensors[draft.layers[name].weight]
    spectrum = _spectrum(draft, name, moment, context)
    rank = _rank(item, weight, spectrum, name)
    if rank * (weight.shape[0] + weight[0].numel()) >= weight.numel():
        return (rank,), (), ""
    last, first = (torch.from_numpy(factor) for factor in spectrum.factors(rank))
    links = (first.view(rank, *weight.shape[1:]), last.view(len(weight), rank, *[1] * (weight.ndim - 2)))
    return (rank,), links, f"factorize svd {rank} {moment[0] if moment else None}"


def _chain(draft: Draft, name: str, item: FactorizeSettings, context: Context) -> Links:
    """Return the same for a chain of three or more."""
    weight = draft.tensors[draft.layers[name].weight]
    shape, full = tuple(weight.shape), full_ranks(item.scheme, tuple(weight.shape))
    if item.rank is None:
        ranks = ranks_for(item.scheme, shape, int(item.size * weight.numel()), item.multiple)
    elif item.rank > max(full):
        raise WorkbenchError(
            f"Rank {item.rank} is above the full rank {max(full)} of layer '{name}' by {item.scheme}: "
            "ask for less, or give the layer another by overrides."
        )
    else:
        ranks = attained(item.scheme, tuple(min(item.rank, most) for most in full), shape)
    widths = widths_of(item.scheme, ranks, shape[2:])
    if weights_of(item.scheme, ranks, shape) >= weight.numel():
        return ranks, (), ""
    version, array = draft.version(draft.layers[name].weight), weight.float().numpy()
    hosvd = None if item.scheme == "cp" else context.cache.get(("hosvd", version), partial(Hosvd.of, array))
    key = ("links", item.scheme, ranks, version)
    links = context.cache.get(key, lambda: decompose(item.scheme, array, ranks, hosvd))
    return widths, tuple(map(torch.from_numpy, links)), f"factorize {item.scheme} {ranks}"


def _as_it_is(settings: FactorizeSettings) -> FactorizeSettings | None:
    return settings if settings.size == 1 and settings.energy is None and settings.rank is None else None


def _refusals(draft: Draft, settings: Mapping[str, FactorizeSettings], context: Context) -> dict[str, str]:
    """Return the layers that cannot be factorized, each with the reason."""
    reasons = {name: _refusal(draft, name, item.scheme) for name, item in settings.items()}
    found = {name: reason for name, reason in reasons.items() if reason is not None}
    rest = tuple(name for name in settings if name not in found)
    if not rest:
        return found
    # a chain of any kind and rank tells
    edits = [Factorize(name, "svd", (1,)) for name in rest]
    tried = partial(irreplaceable, draft.original, edits, draft.image_shape)
    return found | context.cache.get(("irreplaceable", draft.key, rest), tried)


def _refusal(draft: Draft, name: str, scheme: Scheme) -> str | None:
    layer = draft.layers[name]
    if len(layer.weights) > 1:
        return "it has several weights" if layer.weight.rpartition(".")[0] == name else "it is factorized already"
    if not name or layer.weight != f"{name}.weight":
        return "its weight is not its own"
    if sum(layer.weight in other.weights for other in draft.layers.values()) > 1:
        return "its weight is shared with another layer"
    if not layer.macs:
        return "it is never called"
    module, parent = draft.module(name), name.rpartition(".")[0]
    if draft.is_named_twice(module):
        return "the model uses it under several names"
    if isinstance(draft.module(parent), nn.TransformerEncoderLayer):
        return "its encoder layer reads its weight past it"
    return refusal(module, scheme)


def _spectrum(draft: Draft, name: str, moment: tuple[str, Tensor] | None, context: Context) -> Spectrum:
    layer = draft.layers[name]
    weight = draft.tensors[layer.weight]
    matrix = weight.float().flatten(1).numpy()
    key = ("spectrum", draft.version(layer.weight), None if moment is None else moment[0])
    gram = None if moment is None else moment[1].double().numpy()
    return context.cache.get(key, partial(spectrum_of, matrix, gram))


def _rank(settings: FactorizeSettings, weight: Tensor, spectrum: Spectrum, name: str) -> int:
    """Return the rank the settings ask for, a multiple where there is room for one."""
    full = len(spectrum.values)
    if settings.rank is not None:
        if settings.rank > full:
            raise WorkbenchError(
                f"Rank {settings.rank} is above the full rank {full} of layer '{name}': "
                "ask for less, or give the layer another by overrides."
            )
        rank = settings.rank
    elif settings.energy is not None:
        rank = spectrum.rank_for_energy(settings.energy)
    else:
        rank = int(settings.size * weight.numel() / (weight.shape[0] + weight[0].numel()))
    multiple = settings.multiple
    return min(full, max(1, rank) if multiple == 1 else max(multiple, round(rank / multiple) * multiple))


def _moments(
    draft: Draft, settings: Mapping[str, FactorizeSettings], context: Context
) -> Mapping[str, tuple[str, Tensor]]:
    """Return layer → what its moments are of, and the second moment of what each output sees."""
    weighted = {
        name: item.images for name, item in settings.items() if item.weighted and has_columns(draft.module(name))
    }
    if not weighted:
        return {}
    if context.calibration is None or context.normalization is None:
        raise WorkbenchError("Weighing factors by data needs calibration data: give the dataset as well as the model.")
    images, normalize = context.mixed_images(max(weighted.values())), context.normalization
    key = ("input moments", draft.state, tuple(weighted), len(images), context.calibration.hash)
    found = context.cache.get(
        key, lambda: second_moments(draft.build(), images, normalize, tuple(weighted), context.check)
    )
    return {name: (f"weighted {key}", moment) for name, moment in found.items()}


def _cost(settings: FactorizeSettings) -> Cost:
    if settings.scheme == "cp":
        return Cost.FITTED
    return Cost.CALIBRATED if settings.weighted else Cost.LIVE


FACTORIZE = Technique(
    name="factorize",
    summary="Replace a layer by two or more smaller ones whose product comes near its weight.",
    source="Denton et al. 2014; Zhang et al. 2016; Kim et al. 2016 (Tucker); Lebedev et al. 2015 (CP); "
    "Oseledets 2011 (tensor train)",
    url="https://arxiv.org/abs/1505.06798",
    settings=FactorizeSettings,
    apply=apply,
    cost=_cost,
    examples=(
        "- factorize: {size: 0.5}",
        "- factorize: {energy: 0.9, multiple: 4}",
        "- factorize: {size: 0.4}\n- quantize: {bits: 8}",
        "- factorize: {size: 0.5, weighted: true}",
        "- factorize: {scheme: tucker2, size: 0.5}",
        "- factorize: {scheme: tucker, size: 0.5}",
        "- factorize: {scheme: cp, rank: 6}",
        "- factorize: {scheme: tt, size: 0.5}",
    ),
    dial=Dial("size", 1.0, (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1), {"energy": None, "rank": None}, percent=True),
)
