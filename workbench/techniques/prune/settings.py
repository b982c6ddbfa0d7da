"""Settings of ``prune``: what is ranked, by what, among which, and how much of it goes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ..base import Cost, Settings, When

#: Granularity → the criteria that rank its units.
CRITERIA: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("weight", "n:m"), ("magnitude", "random", "taylor", "fisher", "wanda", "obs")),
    **dict.fromkeys(("block", "row", "kernel"), ("magnitude", "random", "taylor", "fisher", "wanda")),
    "head": ("magnitude", "random", "taylor", "fisher"),
    "layer": ("drop", "random", "taylor", "fisher"),
    "filter": ("magnitude", "random", "taylor", "fisher", "activation", "apoz", "batchnorm", "fpgm"),
}
#: Criteria that look at calibration data.
CALIBRATED = frozenset({"taylor", "fisher", "wanda", "obs", "activation", "apoz", "drop"})
#: Granularities whose units are ranked, and criteria with which a person chooses how many of them go.
_RANKED = tuple(kind for kind in CRITERIA if kind != "n:m")
_SCOPED = tuple(kind for kind in _RANKED if kind != "layer")
_CHOOSING = tuple(dict.fromkeys(name for known in CRITERIA.values() for name in known if name != "obs"))


class PruneSettings(Settings):
    """Settings of ``prune``."""

    added: ClassVar[frozenset[str]] = frozenset(
        {"threshold_in", "floor", "macs", "n", "m", "block_rows", "block_columns", "images", "seed"}
    )
    when: ClassVar[Mapping[str, When]] = {
        "ratio": {"threshold": (None,), "macs": (None,)},
        "norm": {"granularity": ("filter", "head", "block", "row", "kernel"), "criterion": ("magnitude",)},
        "multiple": {"granularity": ("filter",)},
        "threshold": {"granularity": _RANKED, "criterion": _CHOOSING},
        "macs": {"granularity": _RANKED, "criterion": _CHOOSING},
        "threshold_in": {"criterion": ("magnitude",), "granularity": ("weight", "block", "row", "kernel")},
        "scope": {"granularity": _SCOPED, "criterion": _CHOOSING},
        "floor": {"scope": ("global",), "granularity": _SCOPED},
        "n": {"granularity": ("n:m",)},
        "m": {"granularity": ("n:m",)},
        "block_rows": {"granularity": ("block",)},
        "block_columns": {"granularity": ("block",)},
        "images": {"criterion": tuple(sorted(CALIBRATED))},
        "seed": {"criterion": ("random",)},
    }
    choices: ClassVar[Mapping[str, tuple[str, Mapping[Any, tuple[Any, ...]]]]] = {
        "criterion": ("granularity", CRITERIA),
        "scope": ("granularity", {kind: ("global", "layer", *(("row",) * (kind == "weight"))) for kind in CRITERIA}),
    }
    alternatives: ClassVar[tuple[str, ...]] = ("ratio", "threshold", "macs")

    criterion: Literal[
        "magnitude", "random", "taylor", "fisher", "wanda", "obs", "activation", "apoz", "batchnorm", "fpgm", "drop"
    ] = Field(
        "magnitude",
        description="What importance is measured by: magnitude, chance, gradient × weight (taylor), Fisher "
        "information, weight × input norm (wanda), or the layer's output, adjusting what stays (obs); of filters "
        "also mean activation, share of zeros (apoz), BatchNorm's scale, or distance to the others (fpgm); of layers "
        "how much the loss grows without them (drop).",
    )
    granularity: Literal["weight", "filter", "n:m", "block", "row", "kernel", "head", "layer"] = Field(
        "weight",
        description="Zero single weights (smaller file), all but n of every m along the inputs, blocks, rows (one "
        "output each) or kernels; or remove whole filters, attention heads, or layers and residual blocks (also "
        "faster).",
    )
    scope: Literal["global", "layer", "row"] = Field(
        "global",
        description="Rank all chosen layers together, prune each to the ratio by itself, or each output's weights "
        "(row; single weights only).",
    )
    ratio: float = Field(
        0.5, ge=0, lt=1, description="Share of the weights, filters or layers to remove (n:m: anything but 0)."
    )
    threshold: float | None = Field(
        None,
        ge=0,
        description="Remove what is at most this large instead: a magnitude, a block's mean, a filter's norm, or the "
        "growth of the loss without a layer.",
    )
    norm: Literal["l1", "l2"] = Field(
        "l1", description="Norm of a filter, or of a block, row or kernel (mean or root mean square of its weights)."
    )
    multiple: int = Field(
        8, ge=1, le=64, description="Keep a multiple of so many filters, which kernels prefer (filter granularity)."
    )
    threshold_in: Literal["absolute", "std"] = Field(
        "absolute", description="Give the threshold as it is, or in standard deviations of each layer's weights."
    )
    floor: float = Field(
        0.0, ge=0, le=1, description="Keep at least this share of every layer, however small (global scope)."
    )
    macs: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Remove until this share of the chosen layers' multiply-accumulates is left, not by ratio.",
    )
    n: int = Field(2, ge=1, le=63, description="Weights kept of every m (n:m granularity).")
    m: int = Field(4, ge=2, le=64, description="Weights along the inputs of which n are kept (n:m granularity).")
    block_rows: int = Field(4, ge=1, le=1024, description="Outputs that a block spans (block granularity).")
    block_columns: int = Field(
        1, ge=1, le=1024, description="Input weights of an output that a block spans (block granularity)."
    )
    images: int = Field(
        256, ge=1, le=100_000, description="Calibration images to look at, at most (criteria that need data)."
    )
    seed: int = Field(0, ge=0, description="Which random choice to make (random criterion).")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_what_follows(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("criterion") == "obs" and "scope" not in data:
            return {**data, "scope": "layer"}
        if isinstance(data, dict) and data.get("granularity") == "layer" and "criterion" not in data:
            return {**data, "criterion": "drop"}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> PruneSettings:
        known = CRITERIA[self.granularity]
        if self.criterion not in known:
            raise ValueError(
                f"criterion {self.criterion} does not rank granularity {self.granularity}; choose {_listed(known)}"
            )
        if self.criterion == "obs" and (self.scope != "layer" or self.threshold is not None or self.macs is not None):
            raise ValueError("criterion obs prunes each layer to the ratio by itself; choose scope layer and a ratio")
        if self.granularity == "n:m":
            self._consistent_n_of_m()
        if self.threshold is not None and self.macs is not None:
            raise ValueError("threshold and macs both say how much to remove; give one of them")
        if self.threshold_in == "std" and (self.criterion != "magnitude" or self.removes):
            raise ValueError(
                "a threshold in standard deviations is one of weights' magnitudes; choose criterion magnitude and "
                "another granularity than filter, head or layer"
            )
        if self.scope == "row" and (self.granularity != "weight" or self.macs is not None):
            raise ValueError("scope row prunes each output's single weights to the ratio; choose scope layer or global")
        return self

    def _consistent_n_of_m(self) -> None:
        if self.n >= self.m:
            raise ValueError(f"n:m keeps n of every m weights, so n must be less than m, not {self.n}:{self.m}")
        if self.threshold is not None or self.macs is not None:
            raise ValueError("granularity n:m always removes m - n of m weights; leave out threshold and macs")

    def idle(self, names: Collection[str] | None = None) -> Iterator[tuple[str, str, Any]]:
        """Yield the settings that change nothing; the scope of obs follows from it, and is left out."""
        return (found for found in super().idle(names) if found[:2] != ("scope", "criterion"))

    @property
    def removes(self) -> bool:
        """Whether structure is removed, and not only zeroed."""
        return self.granularity in ("filter", "head", "layer")

    @property
    def needs_data(self) -> bool:
        """Whether the criterion looks at calibration data."""
        return self.criterion in CALIBRATED

    @property
    def by_threshold(self) -> bool:
        """Whether each layer loses just the weights up to some magnitude."""
        return self.criterion == "magnitude" and self.granularity == "weight" and self.scope != "row"


def cost(settings: PruneSettings) -> Cost:
    """Return what the criterion needs."""
    return Cost.CALIBRATED if settings.needs_data else Cost.LIVE


def _listed(names: tuple[Any, ...]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))
