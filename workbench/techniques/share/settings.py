"""Settings of ``share``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from ..base import Settings, When

#: Entries of a book at most: a byte's values but one, which stands for a pruned weight.
MOST = 255
#: The bit-width that leaves a layer's weights as they are.
AS_IT_IS = 32


class ShareSettings(Settings):
    """Settings of ``share``."""

    added: ClassVar[frozenset[str]] = frozenset({"method", "block", "buckets", "half", "weighted", "images"})
    when: ClassVar[Mapping[str, When]] = {
        "entries": {"method": ("scalar", "product")},
        "start": {"method": ("scalar",)},
        "scope": {"method": ("scalar",)},
        "seed": ({"start": ("random",)}, {"method": ("product", "hash")}),
        "group": {"method": ("scalar",), "scope": ("group",)},
        "iterations": {"method": ("scalar", "product")},
        "block": {"method": ("product",)},
        "weighted": {"method": ("product",)},
        "images": {"method": ("product",), "weighted": (True,)},
        "buckets": {"method": ("hash",)},
        "half": {"method": ("product", "hash")},
    }

    alternatives: ClassVar[tuple[str, ...]] = ("bits", "entries", "buckets")

    method: Literal["scalar", "product", "hash"] = Field(
        "scalar",
        description="What is shared: single values, found by k-means; short runs of a row, by k-means of vectors "
        "(product quantization); or whatever values a hash puts in one bucket.",
    )
    bits: int = Field(
        4,
        ge=1,
        le=32,
        description="Bits of a number in the codebook, 1 to 8, or of buckets for each weight (hash); "
        "32 leaves the layer as it is.",
    )
    entries: int | None = Field(None, ge=2, le=MOST, description="Entries of the codebook, instead of bits.")
    block: int = Field(4, ge=1, le=64, description="Weights of a run, along inputs and their kernels (product).")
    buckets: float | None = Field(
        None, gt=0, le=1, description="Hash buckets as a share of the layer's weights, instead of bits."
    )
    half: bool = Field(False, description="Keep the shared values as 16-bit floats (product, hash).")
    start: Literal["linear", "density", "random"] = Field(
        "linear", description="First entries: evenly spaced, at even shares of the weights, or weights by chance."
    )
    scope: Literal["layer", "group", "model"] = Field(
        "layer", description="One codebook for each layer, for each group of its output channels, or for all layers."
    )
    group: int = Field(16, ge=1, le=4096, description="Output channels that have one codebook (scope group).")
    weighted: bool = Field(
        False,
        description="Come nearest in what the layer gives on calibration data, rather than in its weights (product).",
    )
    images: int = Field(256, ge=1, le=100_000, description="Calibration images to look at, at most (weighted).")
    iterations: int = Field(50, ge=0, le=1000, description="Lloyd iterations at most; it stops where nothing changes.")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of what is left to chance: first entries, the hash.")

    @model_validator(mode="after")
    def _one_size(self) -> ShareSettings:
        if 8 < self.bits != AS_IT_IS:
            raise ValueError(f"bits is {self.bits}, but it should be 1 to 8, or 32 to leave the layer as it is")
        for other, what in (("entries", "the codebook's size"), ("buckets", "the number of buckets")):
            if getattr(self, other) is not None and "bits" in self.model_fields_set:
                raise ValueError(f"bits and {other} both set {what}; leave one of them out")
        if self.entries is not None and self.method == "hash":
            raise ValueError("entries are those of a codebook, and method hash has none; give bits or buckets")
        if self.buckets is not None and self.method != "hash":
            raise ValueError(f"buckets belong to method hash, not to {self.method}; leave them out or choose hash")
        return self

    @property
    def size(self) -> int:
        """Entries of a codebook, at most."""
        return min(MOST, 2**self.bits if self.entries is None else self.entries)
