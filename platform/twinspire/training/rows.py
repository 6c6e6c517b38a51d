"""Sparse gradients of tables on the CPU without sorting: duplicates add up in one pass over the rows."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch


def distinct(gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A sparse gradient of (V, D) as rows (U,), each once, in no order, and values (U, D); not a copy where it can.

    On a GPU torch adds up the duplicates.
    """
    if gradient.device.type != "cpu":
        gradient = gradient.coalesce()
    rows, values = gradient._indices()[0], gradient._values()
    if gradient.is_coalesced():
        return rows, values
    places, members = _places(rows.numpy(), gradient.shape[0])
    if len(members) == len(places):
        return rows, values
    added = np.zeros((len(members), values.shape[1]), np.float32)
    _add(values.numpy(), places, added)
    return torch.from_numpy(members), torch.from_numpy(added)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _places(rows: Any, table_rows: int) -> Any:
    """Where each of `rows` (T,) stands among the distinct ones (U,), and those, by first appearance.

    `where` is never initialised: the list of members says whether a row is one.
    """
    where, members, places = np.empty(table_rows, np.int64), np.empty_like(rows), np.empty_like(rows)
    count = 0
    for at in range(len(rows)):
        row = rows[at]
        if not (0 <= where[row] < count and members[where[row]] == row):
            where[row], members[count] = count, row
            count += 1
        places[at] = where[row]
    return places, members[:count].copy()


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _add(values: Any, places: Any, added: Any) -> None:
    for at in range(len(values)):
        target, value = added[places[at]], values[at]
        for d in range(len(value)):
            target[d] += value[d]
