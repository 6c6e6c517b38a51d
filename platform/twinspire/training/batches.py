"""Batches with hybrid negatives (4.4), as ids: what Ray Data makes and a learner consumes. Numpy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from twinspire.training.config import NegativeConfig

Columns = dict[str, "NDArray[Any]"]


def shuffled_with_negatives(
    rows: Mapping[str, NDArray[Any]],
    config: NegativeConfig,
    batch_size: int,
    items: int,
    rng: np.random.Generator,
) -> Columns:
    """Shuffle L rows and deal each its part of its batch's shared negatives.

    Adds `random` (L, R) i32, items drawn uniformly, and `extra` (L, E) i32, positives of other rows, which is how batch
    negatives are distributed; a batch of any `batch_size` rows in sequence then holds at least the configured numbers.
    """
    size = len(rows["item"])
    order = rng.permutation(size)
    columns: Columns = {name: values[order] for name, values in rows.items()}
    each_random = -(-config.random // batch_size)
    each_extra = -(-config.beyond_batch(batch_size) // batch_size)
    columns["random"] = rng.integers(0, items, (size, each_random), dtype=np.int32)
    columns["extra"] = rows["item"][rng.integers(0, max(size, 1), (size, each_extra))].astype(np.int32)
    return columns


def split(columns: Mapping[str, NDArray[Any]], batch_size: int) -> Iterator[Columns]:
    """Cut columns into batches of `batch_size` rows; a shorter rest is left out."""
    size = len(columns["item"])
    for start in range(0, size - size % batch_size, batch_size):
        yield {name: values[start : start + batch_size] for name, values in columns.items()}


def candidates(batch: Mapping[str, NDArray[Any]], config: NegativeConfig) -> tuple[NDArray[np.int32], int]:
    """The batch's candidate items (M,) i32: its B positives, more positives of the log, then the shared random set.

    The second value is the number of candidates, at the front, that follow the items' frequency in the log.
    """
    size = len(batch["item"])
    extra = batch["extra"].reshape(-1)[: config.beyond_batch(size)]
    random = batch["random"].reshape(-1)[: config.random]
    return np.concatenate([batch["item"], extra, random]).astype(np.int32), size + len(extra)
