"""What a replica measures: appended to lists on the hot path, counted into histograms when somebody reads them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
_FOLD_AT = 1 << 14  # values kept as they are; past that they are counted, whether somebody reads or not


class Histogram:
    """Counts of values up to each of `bounds`, as Prometheus has them: cumulative, since the start."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self._edges = np.array(bounds)
        self._counts: NDArray[np.int64] = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0
        self._new: list[float] = []
        self._folding = threading.Lock()

    def add(self, values: list[float]) -> None:
        """Take values in; from any thread."""
        self._new.extend(values)
        if len(self._new) > _FOLD_AT:
            self._fold()

    def read(self) -> tuple[list[int], float]:
        """Values at most each bound, then all values; and their sum."""
        self._fold()
        return np.cumsum(self._counts).tolist(), self._sum

    def _fold(self) -> None:
        with self._folding:
            count = len(self._new)  # others go on appending behind
            new = np.array(self._new[:count])
            del self._new[:count]
            self._counts += np.bincount(np.searchsorted(self._edges, new), minlength=len(self._counts))
            self._sum += float(new.sum())


class Metrics:
    """Of the searches of one arm. Seconds of each search: `wait` for its batch, and `total` in the service.

    Seconds of each batch: `encode` in the query tower, `search` in the index. `sizes` are those of the batches, and
    `empty` counts searches that found nothing.
    """

    def __init__(self) -> None:
        self.stages = {stage: Histogram(SECONDS) for stage in ("wait", "encode", "search", "total")}
        self.sizes = Histogram(SIZES)
        self.empty = 0
