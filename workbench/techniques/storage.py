"""How a step decided to store a tensor: the values it decodes to, and the Encoding that packs them.

A tensor without a Storage is kept as float32. A technique that stores tensors in a way of its own makes
a subclass; what sizes, tables, views and files need to know of it is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.encodings import Encoding, Search, search_levels, search_values, together
from workbench.encodings.blank import PartlyBlank
from workbench.encodings.grid import Grid
from workbench.encodings.integers import Packed, code_type
from workbench.encodings.levels import look_up
from workbench.encodings.once import once
from workbench.encodings.search import search_smallest
from workbench.encodings.slices import spread
from workbench.encodings.tables import table_values


class Storage(ABC):
    """How one tensor is stored. Immutable: changes give a new one."""

    bits: float
    """Bits that a stored value is written in, before sparsity and entropy coding."""

    @abstractmethod
    def decode(self) -> Tensor:
        """Return the float32 tensor it stands for."""

    @abstractmethod
    def encode(self) -> Encoding:
        """Return the smallest Encoding that decodes, bit for bit, to what ``decode`` gives."""

    def search(self) -> Search[Encoding]:
        """Search for what ``encode`` gives, in step with other tensors' searches; alone, unless a subclass can."""
        yield ()
        return self.encode()

    def unpacked(self) -> Encoding:
        """Return an Encoding of the same that another packing is to be made from; it need not be small."""
        return self.encode()

    def levels(self) -> Tensor | None:
        """Return the values a weight can take, for the histogram; None where there are too many to draw."""
        return None

    @property
    def nonzero(self) -> int | None:
        """How many weights are not zero, without decoding them; None where that is not told."""
        return None

    @property
    def grids(self) -> int:
        """How many sets of values there are, such as one for each channel; ``levels`` are the middle one's."""
        return 1

    def masked(self, pruned: Tensor) -> Storage | None:
        """Return the same with the weights where ``pruned`` is true set to zero; None where it can't hold zero."""
        return None

    def sliced(self, axis: int, keep: Tensor) -> Storage | None:
        """Return the same with only ``keep`` along ``axis``; None where it cannot be cut."""
        return None

    def retrained(self, learned: Mapping[str, Tensor]) -> Storage | None:
        """Return the same with what training learned for it, by part; None where it does not learn.

        The part ``""`` is new float values, to be stored in the same way; others are told where they are made.
        """
        return None


@dataclass(frozen=True, eq=False)
class Codes(Storage):
    """A weight on a uniform grid: integer ``codes`` (the weight's shape), ``(codes - zero_point) * scale``.

    ``scale`` and ``zero_point`` have one entry per slice along ``axis``, or a single one where ``axis`` is
    None. A slice is a channel, or ``group`` consecutive values of one (``workbench.encodings.slices``).
    """

    codes: Tensor
    scale: Tensor
    zero_point: Tensor
    axis: int | None
    bits: int
    group: int | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that it holds in memory."""
        return self.codes.nbytes + self.scale.nbytes + self.zero_point.nbytes

    def decode(self) -> Tensor:
        """Return the float32 values the codes stand for."""
        values = self.codes.numpy().astype(np.float32)
        values -= self.spread(self.zero_point).numpy()
        values *= self.spread(self.scale).numpy()
        return torch.from_numpy(values)

    def encode(self) -> Encoding:
        """Return the grid's integers in the fewest bytes."""
        (grid,) = together([self.search()])
        return grid

    def search(self) -> Search[Encoding]:
        """Search for what ``encode`` gives, in step with other tensors' searches."""
        scale, zero_point, beside = self._grid
        codes = yield from search_smallest(PartlyBlank(self.codes.numpy(), self.bits, None, beside))
        return Grid(codes, scale, zero_point, self.axis, self.group)

    @once
    def _grid(self) -> tuple[NDArray[np.float32], NDArray[Any], Any]:
        """Scales, zero points as codes, and what of these stands beside the codes: a number where all are equal."""
        zeros = self.zero_point.numpy().astype(np.uint8 if self.bits <= 8 else np.uint16)
        kind = self.codes.numpy().dtype
        if zeros.size and (zeros == zeros[0]).all():
            return self.scale.numpy(), np.broadcast_to(zeros[:1], zeros.shape), zeros[0].astype(kind)
        return self.scale.numpy(), zeros, spread(zeros, tuple(self.codes.shape), self.axis, self.group).astype(kind)

    def unpacked(self) -> Encoding:
        """Return the grid's integers without a search for the fewest bytes."""
        scale, zero_point, _ = self._grid
        codes = Packed(self.codes.numpy().astype(code_type(self.bits), copy=False), self.bits)
        return Grid.of(codes, scale, zero_point, self.axis, self.group)

    @property
    def grids(self) -> int:
        """How many scales there are."""
        return len(self.scale)

    def levels(self) -> Tensor | None:
        """Return the values the codes can take; of the slice with the median scale where there are several."""
        if self.bits > 8:
            return None
        middle = int(self.scale.argsort()[len(self.scale) // 2])
        return (torch.arange(2**self.bits) - self.zero_point[middle]) * self.scale[middle]

    @property
    def steps(self) -> Tensor:
        """The grid's step of each channel, the mean over its groups; a single one where ``axis`` is None."""
        if self.axis is None or self.group is None:
            return self.scale
        return self.scale.view(self.codes.shape[self.axis], -1).mean(1)

    def masked(self, pruned: Tensor) -> Codes:
        """Return the same with the weights where ``pruned`` is true set to zero."""
        return self.leaving(~pruned.numpy())

    def leaving(self, left: NDArray[np.bool_]) -> Codes:
        """Return the same with the weights where ``left`` is false set to zero."""
        zeros = self._grid[2]
        codes = self.codes.numpy() ^ zeros
        codes *= left.view(np.uint8)
        codes ^= zeros
        found = type(self)(torch.from_numpy(codes), self.scale, self.zero_point, self.axis, self.bits, self.group)
        found.__dict__["_grid"] = self._grid
        return found

    @property
    def nonzero(self) -> int | None:
        """How many weights are not zero; None where a scale is."""
        return int(np.count_nonzero(self.codes.numpy() != self._grid[2])) if bool(self.scale.all()) else None

    def sliced(self, axis: int, keep: Tensor) -> Codes | None:
        """Return the same with only ``keep`` along ``axis``; None where that breaks its groups."""
        codes = self.codes.index_select(axis, keep)
        if axis != self.axis:
            return replace(self, codes=codes) if self.group is None else None
        channels = self.codes.shape[axis]
        scale, zero_point = (values.view(channels, -1)[keep].flatten() for values in (self.scale, self.zero_point))
        return replace(self, codes=codes, scale=scale, zero_point=zero_point)

    def retrained(self, learned: Mapping[str, Tensor]) -> Codes:
        """Return learned values on the grid: on learned steps in the part ``scale``, zeros in ``zero_point``."""
        zero_point = learned.get("zero_point", self.zero_point)
        new = replace(self, scale=learned.get("scale", self.scale), zero_point=zero_point)
        codes = torch.round(learned[""] / new.spread(new.scale)) + new.spread(new.zero_point)
        return replace(new, codes=codes.clamp_(0, 2**self.bits - 1).to(self.codes.dtype))

    def spread(self, values: Tensor) -> Tensor:
        """Return one value a slice as a tensor that broadcasts against the codes."""
        return torch.from_numpy(spread(values.numpy(), tuple(self.codes.shape), self.axis, self.group))


@dataclass(frozen=True, eq=False)
class TernaryCodes(Codes):
    """A weight of three values, ``-scale``, 0 and ``scale``: the codes 0, 1 and 2 of a grid of two bits."""

    def retrained(self, learned: Mapping[str, Tensor]) -> Storage:  # type: ignore[override]
        """Return the learned ``codes`` with their ``scale``, or ``two``: one for the negative, one for the positive."""
        codes, scale = learned["codes"], learned["scale"]
        if "two" not in learned:
            return replace(self, codes=codes, scale=scale)
        negative, positive = learned["two"].tolist()
        table = np.array([-negative, 0, positive], np.float32)
        return TableCodes(codes, table, scale, self.axis, 2, self.group)


@dataclass(frozen=True, eq=False)
class TableCodes(Storage):
    """A weight whose values are those of a table: ``table[codes] * scale``.

    ``codes`` (uint8, the weight's shape) count into ``table``, an array or the name of one
    (``workbench.encodings.tables``); slices are as in ``Codes``. Weights where ``kept`` (bool) is false
    are zero, whether the table has a zero or not; None keeps all.
    """

    codes: Tensor
    table: NDArray[np.float32] | str
    scale: Tensor
    axis: int | None
    bits: int
    group: int | None = None
    kept: Tensor | None = None

    def decode(self) -> Tensor:
        """Return the float32 values the codes stand for."""
        table = table_values(self.table)
        found = torch.from_numpy(look_up(self.codes.numpy(), table, self.scale.numpy(), self.axis, self.group))
        return found if self.kept is None else found.masked_fill_(~self.kept, 0.0)

    def encode(self) -> Encoding:
        """Return codes and scales in the fewest bytes."""
        (found,) = together([self.search()])
        return found

    def search(self) -> Search[Encoding]:
        """Search for what ``encode`` gives, in step with other tensors' searches."""
        kept = None if self.kept is None else self.kept.numpy()
        codes, scale = self.codes.numpy(), self.scale.numpy()
        return (yield from search_levels(codes, self.bits, self.table, scale, self.axis, self.group, kept))

    @property
    def grids(self) -> int:
        """How many scales there are."""
        return len(self.scale)

    def levels(self) -> Tensor | None:
        """Return the table's values at the median scale; None for those of 8 bits, too many to draw."""
        if self.bits > 7:
            return None
        middle = self.scale.sort().values[len(self.scale) // 2]
        return torch.tensor(table_values(self.table)) * middle

    def masked(self, pruned: Tensor) -> TableCodes:
        """Return the same with the weights where ``pruned`` is true set to zero."""
        return replace(self, kept=~pruned if self.kept is None else self.kept & ~pruned)

    def retrained(self, learned: Mapping[str, Tensor]) -> TableCodes:
        """Return learned values by the nearest of the table's, times learned scales where there is a part ``scale``."""
        self = replace(self, scale=learned.get("scale", self.scale))
        scale = torch.from_numpy(spread(self.scale.numpy(), tuple(self.codes.shape), self.axis, self.group))
        codes = nearest(learned[""] / scale.clamp_min(torch.finfo(torch.float32).tiny), table_values(self.table))
        return replace(self, codes=codes.to(self.codes.dtype))

    def sliced(self, axis: int, keep: Tensor) -> TableCodes | None:
        """Return the same with only ``keep`` along ``axis``; None where that breaks its groups."""
        codes = self.codes.index_select(axis, keep)
        kept = None if self.kept is None else self.kept.index_select(axis, keep)
        if axis != self.axis:
            return replace(self, codes=codes, kept=kept) if self.group is None else None
        scale = self.scale.view(self.codes.shape[axis], -1)[keep].flatten()
        return replace(self, codes=codes, kept=kept, scale=scale)


def has_signs(storage: Storage | None) -> bool:
    """Whether a weight is a sign, or a sign or nothing, times a scale."""
    binary = isinstance(storage, TableCodes) and isinstance(storage.table, str) and storage.table == "sign"
    return binary or isinstance(storage, TernaryCodes)


@dataclass(frozen=True, eq=False)
class Cast(Storage):
    """A weight rounded to a 16-bit float; ``values`` are those of ``dtype``, as float32."""

    values: Tensor
    dtype: torch.dtype

    NAMES: ClassVar[dict[torch.dtype, str]] = {torch.float16: "float16", torch.bfloat16: "bfloat16"}
    bits = 16

    @classmethod
    def of(cls, values: Tensor, dtype: torch.dtype) -> Cast:
        """Round ``values`` to ``dtype``, to nearest even; those beyond its largest take that."""
        most = torch.finfo(dtype).max
        return cls(values.clamp(-most, most).to(dtype).float(), dtype)

    def decode(self) -> Tensor:
        """Return the rounded values."""
        return self.values

    def encode(self) -> Encoding:
        """Return the 16-bit floats, sparse where that is smaller."""
        (found,) = together([self.search()])
        return found

    def search(self) -> Search[Encoding]:
        """Search for what ``encode`` gives, in step with other tensors' searches."""
        return (yield from search_values(self.values.numpy(), type=self.NAMES[self.dtype]))

    def masked(self, pruned: Tensor) -> Cast:
        """Return the same with the weights where ``pruned`` is true set to zero."""
        return Cast(self.values.masked_fill(pruned, 0.0), self.dtype)

    def sliced(self, axis: int, keep: Tensor) -> Cast:
        """Return the same with only ``keep`` along ``axis``."""
        return Cast(self.values.index_select(axis, keep), self.dtype)

    def retrained(self, learned: Mapping[str, Tensor]) -> Cast:
        """Return learned values rounded to the same type."""
        return Cast.of(learned[""], self.dtype)


def nearest(values: Tensor, table: NDArray[np.float32]) -> Tensor:
    """Return the place in ``table`` (any order) of the entry nearest to each of ``values``."""
    entries, order = torch.tensor(table).sort()
    middles = (entries[1:] + entries[:-1]) / 2
    return order[torch.bucketize(values.contiguous(), middles)]
