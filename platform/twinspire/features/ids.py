"""The id map: item ids to rows and back, as three arrays, which are there at once whatever their size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import polars as pl

from twinspire.compiled import compiled
from twinspire.ragged import load_array

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

PADDING = 16  # zeros behind the last id, so that ids can be copied in blocks


@dataclass(frozen=True, eq=False)
class ItemIds(Sequence[str]):
    """Ids by row: `text` (T + PADDING,) is their UTF-8, `offsets` (n + 1,) say where each begins, and `table` (a power
    of two, at most half full) has each id's row at the first free place from its hash on, -1 elsewhere."""

    text: NDArray[np.uint8]
    offsets: NDArray[np.int64]
    table: NDArray[np.int32]

    @classmethod
    def of(cls, ids: Sequence[str] | pl.Series) -> ItemIds:
        """From distinct ids (n,)."""
        series = pl.Series(ids, dtype=pl.String)
        offsets = np.zeros(len(series) + 1, np.int64)
        np.cumsum(series.str.len_bytes().to_numpy(), out=offsets[1:])
        joined = "".join(series).encode() if len(series) else b""
        text = np.frombuffer(joined + bytes(PADDING), np.uint8)
        table = np.full(1 << max(len(series) * 2 - 1, 1).bit_length(), -1, np.int32)
        _fill(text, offsets, table)
        return cls(text, offsets, table)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        """The id of a row, or of each of a slice of rows."""
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        place = range(len(self))[row]
        return self.text[self.offsets[place] : self.offsets[place + 1]].tobytes().decode()

    def row(self, item_id: str) -> int:
        """The row of an id, -1 where there is none."""
        wanted = np.frombuffer(item_id.encode("utf-8", "surrogatepass"), np.uint8)
        return int(_find(self.text, self.offsets, self.table, wanted))

    def save(self, stem: Path) -> None:
        """Write the three arrays."""
        for name in ("text", "offsets", "table"):
            np.save(f"{stem}.{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, stem: Path) -> ItemIds:
        """Read what `save` wrote, memory-mapped."""
        return cls(*(load_array(f"{stem}.{name}.npy") for name in ("text", "offsets", "table")))


@dataclass(frozen=True)
class ItemRows(Mapping[str, int]):
    """Item id to row."""

    ids: ItemIds

    def __getitem__(self, item_id: str) -> int:
        row = self.ids.row(item_id)
        if row < 0:
            raise KeyError(item_id)
        return row

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def __len__(self) -> int:
        return len(self.ids)


@compiled
def _hash(text: Any) -> Any:
    """FNV-1a, its upper bits folded into the lower ones."""
    value = np.uint64(14695981039346656037)
    for byte in text:
        value = (value ^ np.uint64(byte)) * np.uint64(1099511628211)
    return value ^ (value >> np.uint64(32))


@compiled
def _fill(text: Any, offsets: Any, table: Any) -> None:
    mask = np.uint64(len(table) - 1)
    for row in range(len(offsets) - 1):
        place = _hash(text[offsets[row] : offsets[row + 1]]) & mask
        while table[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table[place] = row


@compiled
def _find(text: Any, offsets: Any, table: Any, wanted: Any) -> Any:
    mask = np.uint64(len(table) - 1)
    place = _hash(wanted) & mask
    while table[place] >= 0:
        row = table[place]
        held = text[offsets[row] : offsets[row + 1]]
        if len(held) == len(wanted) and np.all(held == wanted):
            return row
        place = (place + np.uint64(1)) & mask
    return -1
