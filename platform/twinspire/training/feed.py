"""The feed: Ray Data reads encoded rows, shuffles them and adds hybrid negatives; workers receive ids and look
features up.

The plan is a list of (round, part file) tasks, so that all rounds are one stream without a barrier between them,
and each task
draws from its own seed: the same seed gives the same batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import ray.data

from twinspire.training.batches import Columns, shuffled_with_negatives, split

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from twinspire.training.config import NegativeConfig

BATCHES_AT_ONCE = 16  # taken from Ray Data in one go and cut in the worker: the cost of a hand-over is paid once
ROWS = ("query", "user", "item", "stop", "weight")


class ReadPart:
    """One task: read a part file's rows, shuffle, add negatives. Runs without Ray as any callable."""

    def __init__(self, negatives: NegativeConfig, batch_size: int, items: int, seed: int) -> None:
        self.negatives, self.batch_size, self.items, self.seed = negatives, batch_size, items, seed

    def __call__(self, task: dict[str, Any]) -> Columns:
        """Columns of the part's L rows, with `random` (L, R) and `extra` (L, E)."""
        path = str(task["path"][0])
        frame = pl.read_parquet(path, columns=list(ROWS))
        rng = np.random.default_rng([self.seed, int(task["round"][0]), int(task["part"][0])])
        rows = {name: frame[name].to_numpy() for name in ROWS}
        return shuffled_with_negatives(rows, self.negatives, self.batch_size, self.items, rng)


def stream(parts: Path, read: ReadPart, rounds: int) -> ray.data.Dataset:
    """All rounds over the part files of a folder as one Ray dataset of rows."""
    paths = sorted(parts.glob("*.parquet"))
    tasks = []
    for round_ in range(rounds):
        order = np.random.default_rng([read.seed, round_]).permutation(len(paths))
        tasks += [{"round": round_, "part": int(part), "path": str(paths[part])} for part in order]
    source = ray.data.from_items(tasks, override_num_blocks=len(tasks))
    return source.map_batches(read, batch_size=1, batch_format="numpy", num_cpus=0.25)


def batches(shard: ray.data.DataIterator, batch_size: int) -> Iterator[Columns]:
    """Batches of `batch_size` rows from a worker's shard."""
    many = shard.iter_batches(batch_size=BATCHES_AT_ONCE * batch_size, batch_format="numpy", prefetch_batches=2)
    for columns in many:
        yield from split(columns, batch_size)
