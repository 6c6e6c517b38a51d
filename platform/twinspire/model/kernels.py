"""The compiled loops of `pooling`, in numpy arrays. Each passes once over the rows of its bags, whatever the table's size.

A set of table rows is kept the sparse way (Briggs and Torczon 1993): an array of V places, never initialised, says
where in the list of its members a row may stand, and the list says whether it does.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def merge(
    rows: Any, offsets: Any, weights: Any, places: Any, bag: int, merged_rows: Any, merged_weights: Any,
    merged_offsets: Any,
) -> None:  # fmt: skip
    """Append B bags from number `bag` on to merged ones, in which a bag has each of its rows once.

    `weights` (T,), or (0,) for the mean: all rows of a bag weigh the same, together 1. `places` (V,) is scratch.
    """
    to = merged_offsets[bag]
    for b in range(len(offsets) - 1):
        first, start, last = to, offsets[b], offsets[b + 1]
        for at in range(start, last):
            row = rows[at]
            if row < 0 or row >= len(places):
                raise IndexError("a bag has a row that its table has not")
            weight = weights[at] if len(weights) else np.float32(1 / (last - start))
            place = places[row]
            if first <= place < to and merged_rows[place] == row:
                merged_weights[place] += weight
            else:
                places[row], merged_rows[to], merged_weights[to] = to, row, weight
                to += 1
        merged_offsets[bag + b + 1] = to


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def transpose(rows: Any, offsets: Any, weights: Any, numbers: Any, table_rows: int) -> Any:
    """Bags of table rows to, for each of the U rows that are in any, the bag of those bags.

    Bags go by their `numbers` (B,). Gives the table rows (U,), the bags' numbers and weights (T,) and offsets (U + 1,).
    """
    size = offsets[-1]
    places, members, counts = np.empty(table_rows, np.int64), np.empty(size, np.int64), np.empty(size + 1, np.int64)
    count = 0
    for at in range(size):
        row = rows[at]
        if not (0 <= places[row] < count and members[places[row]] == row):
            places[row], members[count], counts[count + 1] = count, row, 0
            count += 1
        counts[places[row] + 1] += 1
    counts[0] = 0
    ends = np.cumsum(counts[:count])  # so far where each begins
    holders, holders_weights = np.empty(size, np.int64), np.empty(size, np.float32)
    for b in range(len(offsets) - 1):
        for at in range(offsets[b], offsets[b + 1]):
            place = places[rows[at]]
            holders[ends[place]], holders_weights[ends[place]] = numbers[b], weights[at]
            ends[place] += 1
    starts = np.zeros(count + 1, np.int64)
    starts[1:] = ends
    return members[:count].copy(), holders, starts, holders_weights


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def pool(source: Any, rows: Any, offsets: Any, weights: Any, numbers: Any, out: Any) -> None:
    """Weighted sums of the rows of `source` (V, D): that of bag b to out[numbers[b]]."""
    dim = source.shape[1]
    for b in range(len(offsets) - 1):
        vector = out[numbers[b]]
        vector[:] = 0
        at, last = offsets[b], offsets[b + 1]
        while at + 4 <= last:  # four rows at once: the sum goes through memory a quarter as often
            row_0, row_1, row_2, row_3 = source[rows[at]], source[rows[at + 1]], source[rows[at + 2]], source[rows[at + 3]]
            w_0, w_1, w_2, w_3 = weights[at], weights[at + 1], weights[at + 2], weights[at + 3]
            for d in range(dim):
                vector[d] += w_0 * row_0[d] + w_1 * row_1[d] + w_2 * row_2[d] + w_3 * row_3[d]
            at += 4
        while at < last:
            row, weight = source[rows[at]], weights[at]
            for d in range(dim):
                vector[d] += weight * row[d]
            at += 1
