"""The settings of ``quantize``, and which of them go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from workbench.techniques.base import Settings, When

#: The bit-width that leaves a layer's weights in fp32.
AS_IT_IS = 32

Observer = Literal["minmax", "percentile", "mse", "entropy"]
Format = Literal[
    "integer", "fixed", "fp16", "bf16", "fp8_e4m3", "fp8_e5m2", "binary", "ternary", "kmeans", "pot", "apot", "nf"
]

#: Formats that have one width, and the bits they have.
WIDTHS: dict[str, int] = {"fp16": 16, "bf16": 16, "fp8_e4m3": 8, "fp8_e5m2": 8, "binary": 1, "ternary": 2}
#: The fewest bits of a format whose width is chosen; the most are 8, or 16 where the grid is uniform.
FEWEST: dict[str, int] = {"integer": 1, "fixed": 2, "kmeans": 1, "pot": 2, "apot": 2, "nf": 2}
UNIFORM = ("integer", "fixed")
#: Bits that mean integers where no format is named; 32, as it is, may become any.
_OF_INTEGERS = (*range(1, 9), AS_IT_IS)
#: Ways to round that look at calibration data.
LEARNED = ("adaround", "gptq")
#: Formats whose values follow from the weights, or are fixed: there is no range to choose.
RANGELESS = ("fp16", "bf16", "binary", "ternary", "kmeans")


def fitting_bits(form: Format | None, bits: int) -> int:
    """Return the width nearest to ``bits`` that the format ``form`` has; any is that of None, and of 32, as it is."""
    if form is None or (bits == AS_IT_IS and WIDTHS.get(form) != 16):
        return bits
    if form in WIDTHS:
        return WIDTHS[form]
    return bits if bits == 16 and form in UNIFORM else min(8, max(FEWEST[form], bits))


class ActivationSettings(Settings):
    """How the inputs of a layer are quantized."""

    added: ClassVar[frozenset[str]] = frozenset({"mode"})
    when: ClassVar[Mapping[str, When]] = {
        "bits": {"mode": ("static", "dynamic")},
        "observer": {"mode": ("static",)},
        "percentile": {"observer": ("percentile",), "mode": ("static",)},
    }

    bits: int = Field(8, ge=4, le=8, description="Bits of what enters each layer.")
    observer: Observer = Field(
        "minmax",
        description="Range on the calibration split: all that was seen, its tails clipped, the least squared "
        "error (mse), or the least information lost (entropy).",
    )
    percentile: float = Field(
        99.99, gt=50, le=100, description="Share of the values inside the range, in percent (percentile observer)."
    )
    mode: Literal["static", "dynamic", "binary"] = Field(
        "static",
        description="Calibrate the ranges once; take them anew from every batch, which needs no data; or give inputs "
        "two values, above and below their calibrated mean (binary; XNOR-Net with binary weights), whatever bits says.",
    )

    @model_validator(mode="after")
    def _only_static_ranges_are_observed(self) -> ActivationSettings:
        if self.mode == "dynamic" and self.observer != "minmax":
            raise ValueError(f"dynamic ranges are each batch's own, so there is nothing to observe by {self.observer}")
        if self.mode == "binary" and self.observer != "minmax":
            raise ValueError(
                f"binary inputs lie about their mean, so there is no range to observe by {self.observer}; leave "
                "observer out"
            )
        return self


class QuantizeSettings(Settings):
    """Settings of ``quantize``."""

    added: ClassVar[frozenset[str]] = frozenset(
        {"group_size", "range", "percentile", "rounding", "seed", "images", "iterations", "fraction_bits"}
    )

    when: ClassVar[Mapping[str, When]] = {
        "scheme": ({"format": (None,), "bits": _OF_INTEGERS}, {"format": ("integer",)}),
        "per": (
            {"format": (None,), "bits": _OF_INTEGERS},
            {"format": tuple(name for name in get_args(Format) if name not in ("fixed", "fp16", "bf16"))},
        ),
        "group_size": {"per": ("group",)},
        "range": (
            {"format": (None,), "bits": _OF_INTEGERS},
            {"format": tuple(name for name in get_args(Format) if name not in RANGELESS)},
        ),
        "percentile": {"range": ("percentile",)},
        "rounding": ({"format": (None,), "bits": _OF_INTEGERS}, {"format": UNIFORM}),
        "seed": {"rounding": ("stochastic",)},
        "images": {"rounding": LEARNED},
        "iterations": {"rounding": ("adaround",)},
        "fraction_bits": {"format": ("fixed",)},
    }

    bits: int = Field(
        8,
        ge=1,
        le=32,
        description="Bits of a weight: 1 to 8, 16 (a float unless format says), 32 to leave it as it is.",
    )
    format: Format | None = Field(
        None,
        description="Values a weight can take: integers on a uniform grid (integer), on one whose step is a power "
        "of two (fixed), short floats (fp16 unless said at 16 bits), signs (binary, ternary), fitted levels "
        "(kmeans), powers of two and sums of them (pot, apot), normal quantiles (nf; NF4 at 4 bits).",
    )
    scheme: Literal["affine", "symmetric"] = Field(
        "affine", description="Fit the grid to minimum and maximum, or centre it on zero."
    )
    per: Literal["channel", "tensor", "group"] = Field(
        "channel", description="One scale per output channel, per layer, or per group of a channel's inputs."
    )
    group_size: int = Field(32, ge=1, le=65536, description="Input channels that share a scale (per group).")
    range: Observer = Field(
        "minmax",
        description="Range the grid spans: all weights, its tails clipped, the least squared error (mse), or the "
        "least information lost (entropy).",
    )
    percentile: float = Field(
        99.9, gt=50, le=100, description="Share of the weights inside the range, in percent (percentile range)."
    )
    rounding: Literal["nearest", "stochastic", "adaround", "gptq"] = Field(
        "nearest",
        description="Round to the nearest level, by chance so that the mean is kept (stochastic), or so that each "
        "layer's output on calibration data changes least, by gradient (adaround) or elimination (gptq).",
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Seed of stochastic rounding.")
    images: int = Field(2048, ge=16, le=8192, description="Calibration images for learned rounding, at most.")
    iterations: int = Field(200, ge=20, le=20_000, description="Steps of gradient descent per layer (adaround).")
    fraction_bits: int | None = Field(
        None, ge=-16, le=31, description="Bits after the point of a fixed-point weight (fitted per layer unless said)."
    )
    activations: ActivationSettings | None = Field(
        None, description="Quantize what enters each layer too; needs calibration data."
    )

    @model_validator(mode="before")
    @classmethod
    def _formats_have_their_bits(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        bits, form = data.get("bits"), data.get("format")
        if form in WIDTHS:
            width = WIDTHS[form]
            if bits not in (None, width, AS_IT_IS) or (bits == AS_IT_IS and width == 16):
                plural = "bits" if width > 1 else "bit"
                raise ValueError(f"format {form} has {width} {plural}, not {bits}; leave bits out or change the format")
            # fp16 is what 16 bits mean anyway, so that both ways to say it are one setting
            said = {key: value for key, value in data.items() if key != "format" or value != "fp16"}
            return {**said, "bits": bits or width}
        if not isinstance(bits, int) or bits == AS_IT_IS or not 1 <= bits <= AS_IT_IS:
            return data
        if bits > 8 and bits != 16:
            raise ValueError(f"bits is {bits}, but it should be 1 to 8 (integers), 16 (fp16, bf16) or 32 (as it is)")
        if form in FEWEST and (bits < FEWEST[form] or (bits == 16 and form not in UNIFORM)):
            more = ", or 16" if form in UNIFORM else ""
            raise ValueError(f"format {form} has {FEWEST[form]} to 8 bits{more}, not {bits}; change bits or the format")
        return data

    @model_validator(mode="after")
    def _settings_go_together(self) -> QuantizeSettings:
        if self.bits == AS_IT_IS:
            return self
        if self.fraction_bits is not None and self.kind != "fixed":
            raise ValueError(f"fraction_bits belong to format fixed, not to {self.kind}; leave them out")
        if self.kind == "fixed" and self.per == "group":
            raise ValueError("a fixed-point format has one split per layer, so per cannot be group")
        if self.rounding != "nearest" and self.kind not in UNIFORM:
            raise ValueError(
                f"{self.rounding} rounding is between neighbours on a uniform grid; format {self.kind} has none, "
                "use rounding nearest"
            )
        if self.rounding in LEARNED and (self.kind != "integer" or self.bits > 8):
            raise ValueError(
                f"{self.rounding} rounding is for integers of 1 to 8 bits, not for {self.bits}-bit {self.kind}"
            )
        if self.range != "minmax" and self.kind in RANGELESS:
            raise ValueError(f"format {self.kind} has no range to choose; leave range out")
        return self

    @property
    def kind(self) -> Format:
        """The format chosen, or the one that follows from the bits."""
        return self.format or ("fp16" if self.bits == 16 else "integer")
