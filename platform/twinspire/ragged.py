"""Rows of different lengths in two flat arrays (CSR): the shape of every bag and history.

Row i is `values[offsets[i]:offsets[i + 1]]`. Gathering costs one pass over what is gathered.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from twinspire.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Ints = NDArray[np.signedinteger[Any]]


@compiled
def _copy_slices(values: Ints, starts: Ints, stops: Ints, offsets: Ints, out: Ints) -> None:
    for i in range(len(starts)):
        at = offsets[i]
        for j in range(starts[i], stops[i]):
            out[at] = values[j]
            at += 1


@compiled
def _gather(values: Ints, offsets: Ints, rows: Ints) -> tuple[Ints, Ints]:
    out_offsets = np.zeros(len(rows) + 1, np.int64)
    for i in range(len(rows)):
        out_offsets[i + 1] = out_offsets[i] + offsets[rows[i] + 1] - offsets[rows[i]]
    out = np.empty(out_offsets[-1], values.dtype)
    _copy_slices(values, offsets[:-1][rows], offsets[1:][rows], out_offsets, out)
    return out, out_offsets


@dataclass(frozen=True, slots=True)
class Ragged:
    """`values` (T,) integers and `offsets` (N + 1,) int64, offsets[0] = 0 and offsets[N] = T.

    `weights` (T,) say how much each value counts, where that differs; they stay with the whole, and are neither
    gathered nor saved.
    """

    values: Ints
    offsets: NDArray[np.int64]
    weights: NDArray[np.float32] | None = None

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int]], dtype: Any = np.int32) -> Ragged:
        """Build from a short list of rows; for tests and single requests, not for tables."""
        offsets = np.array([*accumulate(map(len, rows), initial=0)], np.int64)
        return cls(np.array([*chain.from_iterable(rows)], dtype), offsets)

    @classmethod
    def from_lengths(cls, values: Ints, lengths: Ints) -> Ragged:
        """Build from the flat values and each row's length (N,)."""
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(values, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def row(self, i: int) -> Ints:
        """Row i as a view."""
        return self.values[self.offsets[i] : self.offsets[i + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each row, (N,)."""
        return np.diff(self.offsets)

    def gather(self, rows: Ints) -> Ragged:
        """The given rows, in that order, repeats allowed: a Ragged of len(rows)."""
        return Ragged(*_gather(self.values, self.offsets, rows))

    def slices(self, starts: Ints, stops: Ints) -> Ragged:
        """One row for each flat slice [starts[i], stops[i])."""
        offsets = np.zeros(len(starts) + 1, np.int64)
        np.cumsum(stops - starts, out=offsets[1:])
        out = np.empty(offsets[-1], self.values.dtype)
        _copy_slices(self.values, starts, stops, offsets, out)
        return Ragged(out, offsets)

    def save(self, stem: Path) -> None:
        """Write `<stem>.values.npy` and `<stem>.offsets.npy`."""
        np.save(f"{stem}.values.npy", self.values, allow_pickle=False)
        np.save(f"{stem}.offsets.npy", self.offsets, allow_pickle=False)

    @classmethod
    def load(cls, stem: Path, *, mmap: bool = True) -> Ragged:
        """Read what `save` wrote, memory-mapped unless told otherwise."""
        return cls(load_array(f"{stem}.values.npy", mmap=mmap), load_array(f"{stem}.offsets.npy", mmap=mmap))


def load_array(path: Path | str, *, mmap: bool = True) -> NDArray[Any]:
    """Read an .npy file, memory-mapped unless told otherwise; a plain array, which costs less to use than a memmap."""
    array: NDArray[Any] = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    return array.view(np.ndarray)
