"""Hypothesis strategies that make encodings of every kind, nested in every way that makes sense."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from workbench.encodings import (
    Ans,
    Bitmask,
    Blocks,
    Dense,
    Encoding,
    Entropy,
    Grid,
    Hashed,
    Levels,
    Packed,
    RelativeIndex,
    encode_blocks,
    encode_hashed,
    search_levels,
    together,
)
from workbench.encodings.blocks import codes_shape
from workbench.encodings.dense import STORED
from workbench.encodings.integers import BYTE_FILLING, WIDTHS, code_type
from workbench.encodings.slices import slice_count
from workbench.encodings.sparse import INDEX_BITS
from workbench.encodings.tables import table_values

Shape = tuple[int, ...]


def encode_levels(*values: Any, **named: Any) -> Levels:
    """Encode values of a table without any other tensor beside them."""
    (found,) = together([search_levels(*values, **named)])
    return found


shapes = st.lists(st.integers(0, 7), max_size=4).map(tuple)
widths = st.sampled_from(WIDTHS)


@st.composite
def arrays(draw: st.DrawFn, shape: Shape) -> tuple[np.ndarray, str]:
    """Any bit patterns of any element type: NaN payloads, infinities and minus zero among them."""
    kind = draw(st.sampled_from(sorted(STORED)))
    size = int(np.prod(shape))
    raw = np.random.default_rng(draw(st.integers(0, 2**32))).bytes(size * STORED[kind].itemsize)
    values = np.frombuffer(raw, np.uint8) < 128 if kind == "bool" else np.frombuffer(raw, STORED[kind])
    return values.reshape(shape), kind


@st.composite
def codes(draw: st.DrawFn, shape: Shape, bits: int) -> np.ndarray:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    top = draw(st.integers(0, 2**bits - 1))
    return generator.integers(0, top, shape, code_type(bits), endpoint=True)


@st.composite
def masks(draw: st.DrawFn, shape: Shape) -> np.ndarray:
    share = draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.9, 1.0]))
    return np.random.default_rng(draw(st.integers(0, 2**32))).random(shape) < share


@st.composite
def packed(draw: st.DrawFn, shape: Shape) -> Encoding:
    bits = draw(widths)
    return Packed(draw(codes(shape, bits)), bits)


@st.composite
def dense(draw: st.DrawFn, shape: Shape) -> Encoding:
    return Dense(*draw(arrays(shape)))


@st.composite
def encodings(draw: st.DrawFn, shape: Shape | None = None, depth: int = 3, integers: bool = False) -> Encoding:
    """An encoding of the given shape; `integers` leaves out those that decode to anything but codes."""
    shape = draw(shapes) if shape is None else shape
    leaves = ["packed", "ans"] if integers else ["packed", "ans", "dense"]
    parents = ["entropy", "bitmask", "relative"]
    if not integers:
        parents += ["grid", "levels", "hashed", *["blocks"] * bool(shape)]
    kind = draw(st.sampled_from(leaves + parents * (depth > 0)))
    if kind == "packed":
        return draw(packed(shape))
    if kind == "ans":
        bits = draw(st.integers(1, 8))
        return Ans(Packed(draw(codes(shape, bits)), bits), draw(st.booleans()) and bits in BYTE_FILLING)
    if kind == "dense":
        return draw(dense(shape))
    if kind == "entropy":
        return Entropy(draw(encodings(shape, depth - 1, integers)))
    if kind == "grid":
        return draw(grids(shape, depth - 1))
    tables = {"levels": levels, "blocks": blocks, "hashed": hashed}
    if kind in tables:
        return draw(tables[kind](shape))
    mask = draw(masks(shape))
    values = draw(encodings((int(mask.sum()),), depth - 1, integers))
    if kind == "relative":
        sparse = RelativeIndex.of(mask, values, draw(st.none() | st.sampled_from(INDEX_BITS)))
    else:
        sparse = Bitmask.of(mask, values)
    return sparse.with_index(Entropy(sparse.index)) if draw(st.booleans()) else sparse


@st.composite
def grids(draw: st.DrawFn, shape: Shape, depth: int) -> Encoding:
    inner = draw(encodings(shape, depth, integers=True))
    axis = draw(st.none() | st.integers(0, len(shape) - 1)) if shape else None
    group = None if axis is None else draw(st.none() | st.integers(1, 5))
    count = slice_count(shape, axis, group)
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = generator.uniform(1e-6, 10, count).astype(np.float32)
    zeros = generator.integers(0, 1, count, endpoint=True)  # fits the narrowest codes
    return Grid(inner, scale, zeros, axis, group)


@st.composite
def levels(draw: st.DrawFn, shape: Shape) -> Encoding:
    axis = draw(st.none() | st.integers(0, len(shape) - 1)) if shape else None
    group = None if axis is None else draw(st.none() | st.integers(1, 5))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    bits = draw(st.integers(2, 5))
    named = st.sampled_from(["sign", "nf4", "e4m3", "e5m2", f"pot{bits}", f"apot{bits}"])
    table = draw(named | st.just(generator.normal(size=2**bits).astype(np.float32)))
    most = min(2**bits, len(table_values(table))) - 1
    chosen = generator.integers(0, most, shape, np.uint8, endpoint=True)
    scale = generator.uniform(0, 10, slice_count(shape, axis, group)).astype(np.float32)
    kept = draw(st.none() | masks(shape))
    return encode_levels(chosen, bits, table, scale, axis, group, kept)


@st.composite
def floats(draw: st.DrawFn, shape: Shape) -> np.ndarray:
    values = np.random.default_rng(draw(st.integers(0, 2**32))).normal(size=shape)
    return values.astype(draw(st.sampled_from([np.float16, np.float32])))


@st.composite
def blocks(draw: st.DrawFn, shape: Shape) -> Encoding:
    axis, entries, length = draw(st.integers(0, len(shape) - 1)), draw(st.integers(1, 9)), draw(st.integers(1, 5))
    book = draw(floats((entries, length)))
    cut = codes_shape(shape, axis, length)
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        return encode_blocks(generator.integers(0, entries, cut, np.uint8, endpoint=True), book, shape, axis)
    mask = draw(masks(cut))
    values = Packed(generator.integers(0, entries, int(mask.sum()), np.uint8), 8)
    return Blocks(Bitmask.of(mask, Entropy(values)), Entropy(Dense.of(book)), shape, axis)


@st.composite
def hashed(draw: st.DrawFn, shape: Shape) -> Encoding:
    size, seed = int(np.prod(shape)), draw(st.integers(0, 2**32 - 1))
    buckets = draw(floats((draw(st.integers(1, max(1, size))),)))
    if draw(st.booleans()):
        return encode_hashed(buckets, shape, seed, draw(st.none() | masks(shape)))
    return Hashed(Entropy(Dense.of(buckets)), shape, seed, draw(encodings(shape, 2, integers=True)))
