"""Batches with hybrid negatives (4.4), as ids: what Ray Data makes and a learner consumes. Numpy only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from twinspire.features.supervision import SupervisionConfig

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


class Candidates(NamedTuple):
    """What the queries of a batch are scored against.

    `items` (M,) i32: the batch's B positives, more positives of the log, the shared random set, and last S labelled
    items, which no one drew. The first `from_log` follow the items' frequency in the log. `concerned` (B, S) bool says
    which labelled items are negatives of which query.
    """

    items: NDArray[np.int32]
    from_log: int
    concerned: NDArray[np.bool_]


def candidates(
    batch: Mapping[str, NDArray[Any]], config: NegativeConfig, supervision: SupervisionConfig | None = None
) -> Candidates:
    """The batch's candidate items.

    Labelled are the negative pairs of the batch's queries, up to the places that `supervision` has for each source
    (they concern the rows of their query), or each row's unclicked impressions (they concern that row).
    """
    size = len(batch["item"])
    extra = batch["extra"].reshape(-1)[: config.beyond_batch(size)]
    random = batch["random"].reshape(-1)[: config.random]
    labelled, concerned = _labelled(batch, config, supervision or SupervisionConfig())
    items = np.concatenate([batch["item"], extra, random, labelled]).astype(np.int32)
    return Candidates(items, size + len(extra), concerned)


def _labelled(
    batch: Mapping[str, NDArray[Any]], config: NegativeConfig, supervision: SupervisionConfig
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Labelled items (S,) and whom they concern (B, S)."""
    size = len(batch["item"])
    if "impressions" in batch:
        row, place = np.nonzero(batch["impressions"] >= 0)
        return batch["impressions"][row, place], row[None, :] == np.arange(size)[:, None]
    items, owners = [np.zeros(0, np.int32)], [np.zeros(0, batch["query"].dtype)]
    for source, places in supervision.places(config.random).items():
        if source in batch:
            row, place = np.nonzero(batch[source] >= 0)
            pairs = np.stack([batch["query"][row], batch[source][row, place]])
            _, first = np.unique(pairs, axis=1, return_index=True)
            kept = pairs[:, np.sort(first)[:places]]  # rows are in random order, so this is a random choice
            owners.append(kept[0])
            items.append(kept[1])
    return np.concatenate(items), np.concatenate(owners)[None, :] == batch["query"][:, None]
