"""How tensors are stored: encodings, the choice between them, and the file they are packed in."""

from __future__ import annotations

from workbench.encodings.ans import Ans
from workbench.encodings.archive import Archive, ArchiveError, load_archive
from workbench.encodings.base import ENCODINGS, Encoding, EncodingError, register, unpack
from workbench.encodings.blocks import Blocks
from workbench.encodings.choose import (
    GridValues,
    encode_blocks,
    encode_codebook,
    encode_codes,
    encode_grid,
    encode_grids,
    encode_hashed,
    encode_values,
    entropy_bound_bytes,
    search_codebook,
    search_grid,
    search_levels,
    search_values,
)
from workbench.encodings.codebook import Codebook
from workbench.encodings.dense import Dense, bfloat16_bits
from workbench.encodings.entropy import Entropy
from workbench.encodings.grid import Grid
from workbench.encodings.hashed import Hashed
from workbench.encodings.integers import Packed
from workbench.encodings.levels import Levels
from workbench.encodings.search import Search, together
from workbench.encodings.sparse import Bitmask, RelativeIndex

__all__ = [
    "ENCODINGS",
    "Ans",
    "Archive",
    "ArchiveError",
    "Bitmask",
    "Blocks",
    "Codebook",
    "Dense",
    "Encoding",
    "EncodingError",
    "Entropy",
    "Grid",
    "GridValues",
    "Hashed",
    "Levels",
    "Packed",
    "RelativeIndex",
    "Search",
    "bfloat16_bits",
    "encode_blocks",
    "encode_codebook",
    "encode_codes",
    "encode_grid",
    "encode_grids",
    "encode_hashed",
    "encode_values",
    "entropy_bound_bytes",
    "load_archive",
    "register",
    "search_codebook",
    "search_grid",
    "search_levels",
    "search_values",
    "together",
    "unpack",
]
