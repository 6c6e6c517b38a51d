"""From hash rows to the rows of an embedding table: what training saw often enough, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from twinspire.compiled import compiled
from twinspire.ragged import Ints, Ragged

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray


@compiled
def _count(values: Ints, offsets: Ints, weights: Ints, counts: Ints) -> None:
    for i in range(len(offsets) - 1):
        for j in range(offsets[i], offsets[i + 1]):
            counts[values[j]] += weights[i]


@compiled
def _apply(values: Ints, offsets: Ints, remap: Ints, out: Ints, out_offsets: Ints) -> None:
    n = 0
    out_offsets[0] = 0
    for i in range(len(offsets) - 1):
        for j in range(offsets[i], offsets[i + 1]):
            if values[j] < len(remap):
                row = remap[values[j]]
                if row != 0:
                    out[n] = row
                    n += 1
        out_offsets[i + 1] = n


def count(bag: Ragged, *, hash_bits: int, weights: Ints | None = None) -> NDArray[np.int64]:
    """How often each hash row occurs in the bag's N rows, (2**hash_bits,) int64.

    `weights` (N,) counts a row more than once, such as a distinct query by its clicks. Counts of several
    bags add up.
    """
    counts = np.zeros(1 << hash_bits, np.int64)
    ones = np.ones(len(bag), np.int64)
    _count(bag.values, bag.offsets, ones if weights is None else weights.astype(np.int64), counts)
    return counts


class Vocabulary:
    """Compact rows 1..V-1 for V-1 hash rows, the most frequent first. Row 0 is none: no token maps to it.

    `hashes` (V,) int32 is each row's hash row (-1 for row 0), `counts` (V,) int64 how often training saw it
    (0 for row 0). Lookup is one read from a table of int32 as long as the largest hash row: 16 MiB at 22
    bits, some nanoseconds a token, where a binary search would take ten times as long.
    """

    def __init__(self, hashes: NDArray[np.int32], counts: NDArray[np.int64]) -> None:
        if len(hashes) == 0 or len(hashes) != len(counts) or hashes[0] != -1:
            raise ValueError(f"a vocabulary needs a row 0 of hash -1, got shapes {hashes.shape} and {counts.shape}")
        self.hashes, self.counts = hashes, counts
        self._remap = np.zeros(max(int(hashes.max()) + 1, 1), np.int32)
        self._remap[hashes[1:]] = np.arange(1, len(hashes), dtype=np.int32)

    @classmethod
    def from_counts(cls, counts: NDArray[np.int64], *, min_count: int = 1, max_size: int | None = None) -> Vocabulary:
        """Keep hash rows seen at least `min_count` times, and of these the `max_size - 1` most frequent.

        `counts` is what `count` gives. Ties go to the smaller hash row, so the same counts give the same
        rows.
        """
        kept = np.flatnonzero(counts >= max(min_count, 1))
        kept = kept[np.argsort(-counts[kept], kind="stable")]
        if max_size is not None:
            kept = kept[: max(max_size - 1, 0)]
        hashes = np.concatenate([[-1], kept]).astype(np.int32)
        return cls(hashes, np.concatenate([[0], counts[kept]]).astype(np.int64))

    @classmethod
    def fit(
        cls, bags: Iterable[Ragged], *, hash_bits: int, min_count: int = 1, max_size: int | None = None
    ) -> Vocabulary:
        """`count` over all bags, then `from_counts`."""
        counts = np.zeros(1 << hash_bits, np.int64)
        for bag in bags:
            counts += count(bag, hash_bits=hash_bits)
        return cls.from_counts(counts, min_count=min_count, max_size=max_size)

    @property
    def size(self) -> int:
        """V, row 0 included."""
        return len(self.hashes)

    @property
    def remap(self) -> NDArray[np.int32]:
        """Row of each hash row up to the largest known one, 0 for unknown ones."""
        return self._remap

    def apply(self, bag: Ragged) -> Ragged:
        """The bag's hash rows as compact int32 rows in [1, V), order kept; unknown ones are dropped."""
        out = np.empty(len(bag.values), np.int32)
        offsets = np.empty(len(bag) + 1, np.int64)
        _apply(bag.values, bag.offsets, self._remap, out, offsets)
        return Ragged(out[: offsets[-1]].copy(), offsets)

    def save(self, stem: Path) -> None:
        """Write `<stem>.hashes.npy` and `<stem>.counts.npy`."""
        np.save(f"{stem}.hashes.npy", self.hashes, allow_pickle=False)
        np.save(f"{stem}.counts.npy", self.counts, allow_pickle=False)

    @classmethod
    def load(cls, stem: Path) -> Vocabulary:
        """Read what `save` wrote."""
        hashes = np.load(f"{stem}.hashes.npy", allow_pickle=False)
        return cls(hashes, np.load(f"{stem}.counts.npy", allow_pickle=False))
