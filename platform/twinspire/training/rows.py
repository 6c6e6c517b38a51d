"""The rows of a table's sparse gradient, each once: duplicates add up in one compiled pass, nothing is sorted."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from twinspire.compiled import compiled
from twinspire.model.kernels import number


def distinct_rows(gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A sparse gradient of (V, D) as rows (U,), each once, on a CPU in no order, and values (U, D)."""
    if gradient.device.type != "cpu":
        gradient = gradient.coalesce()
        return gradient.indices()[0], gradient.values()
    rows, values = distinct(gradient._indices().numpy()[0], gradient._values().numpy(), gradient.shape[0])
    return torch.from_numpy(rows), torch.from_numpy(values)


@compiled
def distinct(rows: Any, values: Any, table_rows: int) -> Any:
    """Rows (T,) of a table and their values (T, D) to the distinct rows (U,), by first appearance, and sums (U, D).

    Costs no copy where nothing is twice.
    """
    members, places = number(rows, table_rows)
    count = len(members)
    if count == len(rows):
        return members, values
    added = np.zeros((count, values.shape[1]), values.dtype)
    for at in range(len(rows)):
        for d in range(values.shape[1]):
            added[places[at], d] += values[at, d]
    return members, added
