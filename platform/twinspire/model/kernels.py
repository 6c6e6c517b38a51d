"""The compiled loops of `pooling`. Each passes once over the rows of its bags, whatever the size of the tables.

A set of table rows is kept the sparse way (Briggs and Torczon 1993): an array of V places, never initialised, says
where in the list of members a row would stand, and the list says whether it does.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def merge(
    rows: Any, offsets: Any, weights: Any, first: int, places: Any, bag: int, merged_rows: Any, merged_offsets: Any,
    merged_weights: Any,
) -> None:  # fmt: skip
    """Append B bags to the merged ones, from number `bag` on; there a bag has each of its rows once.

    `weights` are (T,), or (0,) where the rows of a bag weigh the same, together 1. `first` is added to the rows of this
    table; `places` (V,) is scratch.
    """
    end = merged_offsets[bag]
    for b in range(len(offsets) - 1):
        begin, length = end, offsets[b + 1] - offsets[b]
        for at in range(offsets[b], offsets[b + 1]):
            row = rows[at]
            if row < 0 or row >= len(places):
                raise IndexError("a bag has a row that its table has not")
            weight = weights[at] if len(weights) else np.float32(1 / length)
            place = places[row]
            if begin <= place < end and merged_rows[place] == first + row:
                merged_weights[place] += weight
            else:
                places[row], merged_rows[end], merged_weights[end] = end, first + row, weight
                end += 1
        merged_offsets[bag + b + 1] = end


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def pool(source: Any, first: int, rows: Any, offsets: Any, weights: Any, out: Any, numbers: Any) -> None:
    """The weighted sum of each bag's rows, of which `first` is row 0 of `source` (V, D): bag b's to out[numbers[b]]."""
    dim = source.shape[1]
    for b in range(len(offsets) - 1):
        vector = out[numbers[b]]
        vector[:] = 0
        at, last = offsets[b], offsets[b + 1]
        while at + 4 <= last:  # four rows at a time: the sum goes to memory and back a quarter as often
            one, two = source[rows[at] - first], source[rows[at + 1] - first]
            three, four = source[rows[at + 2] - first], source[rows[at + 3] - first]
            w_one, w_two, w_three, w_four = weights[at], weights[at + 1], weights[at + 2], weights[at + 3]
            for d in range(dim):
                vector[d] += w_one * one[d] + w_two * two[d] + w_three * three[d] + w_four * four[d]
            at += 4
        while at < last:
            row, weight = source[rows[at] - first], weights[at]
            for d in range(dim):
                vector[d] += weight * row[d]
            at += 1


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def transpose(rows: Any, offsets: Any, weights: Any, numbers: Any, scales: Any, table_rows: int) -> Any:
    """Bags of V table rows to the bags of their transpose: for each row, the vectors that it is part of.

    Bag b became vector numbers[b], times scales[numbers[b]]. Gives the U rows that are in any bag, by their first
    appearance, and their bags: vectors (T,), offsets (U + 1,), weights (T,).
    """
    size, count = offsets[-1], 0
    places, members, ends = np.empty(table_rows, np.int64), np.empty(size, np.int64), np.zeros(size + 1, np.int64)
    for at in range(size):
        row = rows[at]
        if not (0 <= places[row] < count and members[places[row]] == row):
            places[row], members[count] = count, row
            count += 1
        ends[places[row] + 1] += 1
    ends = np.cumsum(ends[: count + 1])
    starts = ends.copy()
    vectors, factors = np.empty(size, np.int64), np.empty(size, np.float32)
    for b in range(len(offsets) - 1):
        for at in range(offsets[b], offsets[b + 1]):
            place = places[rows[at]]
            to = ends[place]
            vectors[to], factors[to] = numbers[b], weights[at] * scales[numbers[b]]
            ends[place] += 1
    return members[:count].copy(), vectors, starts, factors


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def scaled(vectors: Any, scales: Any, out: Any) -> None:
    """Each of R vectors (R, D) times its scale (R,)."""
    for r in range(len(scales)):
        for d in range(vectors.shape[1]):
            out[r, d] = vectors[r, d] * scales[r]


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def inner_products(left: Any, right: Any, out: Any) -> None:
    """Of the rows of two (R, D), (R,)."""
    for r in range(len(out)):
        total = np.float32(0)
        for d in range(left.shape[1]):
            total += left[r, d] * right[r, d]
        out[r] = total
