"""The compiled loops of `projection`. Each passes once over the rows of its bags, whatever the size of the tables.

A set of table rows is kept the sparse way (Briggs and Torczon 1993): an array of V places, never initialised, says
where in the list of members a row would stand, and the list says whether it does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from twinspire.compiled import compiled


@compiled
def merge(rows: Any, offsets: Any, weights: Any, kept: Any, table_rows: int) -> Any:
    """B bags of a table's rows to the same with each row once in a bag: rows, offsets (B + 1,) and weights.

    `weights` are (T,), or (0,) where the rows of a bag weigh the same, together 1. Bags that are not `kept` (B,) bool
    become empty.
    """
    places, merged_offsets = np.empty(table_rows, np.int64), np.zeros(len(offsets), np.int64)
    merged_rows, merged_weights = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    end = 0
    for b in range(len(offsets) - 1):
        begin, length = end, offsets[b + 1] - offsets[b]
        for at in range(offsets[b], offsets[b + 1]):
            row = rows[at]
            if not kept[b]:
                break
            if row < 0 or row >= table_rows:
                raise IndexError("a bag has a row that its table has not")
            weight = weights[at] if len(weights) else np.float32(1 / length)
            place = places[row]
            if begin <= place < end and merged_rows[place] == row:
                merged_weights[place] += weight
            else:
                places[row], merged_rows[end], merged_weights[end] = end, row, weight
                end += 1
        merged_offsets[b + 1] = end
    return merged_rows[:end], merged_offsets, merged_weights[:end]


@compiled
def number(rows: Any, table_rows: int) -> Any:
    """The distinct ones of a table's rows (T,), by first appearance, (U,), and where among them each stands, (T,)."""
    places, members, numbers = np.empty(table_rows, np.int64), np.empty(len(rows), np.int64), np.empty_like(rows)
    count = 0
    for at in range(len(rows)):
        row = rows[at]
        if not (0 <= places[row] < count and members[places[row]] == row):
            places[row], members[count] = count, row
            count += 1
        numbers[at] = places[row]
    return members[:count], numbers


@compiled
def transpose(rows: Any, offsets: Any, weights: Any, table_rows: int) -> Any:
    """Bags of rows to the distinct rows (U,), by first appearance, and for each the bag of the bags that have it.

    Gives the rows, and of their bags: bag numbers (T,), offsets (U + 1,) and weights (T,).
    """
    members, numbers = number(rows, table_rows)
    starts = np.zeros(len(members) + 1, np.int64)
    for at in range(len(rows)):
        starts[numbers[at] + 1] += 1
    starts = np.cumsum(starts)
    ends, bags, factors = starts.copy(), np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    for b in range(len(offsets) - 1):
        for at in range(offsets[b], offsets[b + 1]):
            to = ends[numbers[at]]
            bags[to], factors[to] = b, weights[at]
            ends[numbers[at]] += 1
    return members, bags, starts, factors


@compiled(fastmath=True)
def pool(source: Any, rows: Any, offsets: Any, weights: Any, out: Any, add: bool) -> None:
    """The weighted sum of each bag's rows of `source` (V, D), into `out` (B, D) or added to what is there."""
    dim = source.shape[1]
    for b in range(len(offsets) - 1):
        vector = out[b]
        if not add:
            vector[:] = 0
        at, last = offsets[b], offsets[b + 1]
        while at + 4 <= last:  # four rows at a time: the sum goes to memory and back a quarter as often
            one, two, three, four = source[rows[at]], source[rows[at + 1]], source[rows[at + 2]], source[rows[at + 3]]
            w_one, w_two, w_three, w_four = weights[at], weights[at + 1], weights[at + 2], weights[at + 3]
            for d in range(dim):
                vector[d] += w_one * one[d] + w_two * two[d] + w_three * three[d] + w_four * four[d]
            at += 4
        while at < last:
            row, weight = source[rows[at]], weights[at]
            for d in range(dim):
                vector[d] += weight * row[d]
            at += 1


@compiled(fastmath=True)
def add_transposed(source: Any, rows: Any, offsets: Any, weights: Any, out: Any) -> None:
    """Add each of `source` (B, D), weighted, to the rows of `out` (V, D) that are in its bag."""
    for b in range(len(offsets) - 1):
        vector = source[b]
        for at in range(offsets[b], offsets[b + 1]):
            row, weight = out[rows[at]], weights[at]
            for d in range(len(vector)):
                row[d] += weight * vector[d]
