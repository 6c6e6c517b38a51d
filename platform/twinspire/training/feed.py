"""The feed: Ray Data reads encoded rows, shuffles them and adds hybrid negatives; workers receive ids and look
features up.

The plan is a list of (round, part file) tasks, so that all rounds are one stream without a barrier between them, and
each task draws from its own seed: the same seed gives the same batches, and a stream can begin in the middle. Each
worker has a stream of its own, made in its own process: no worker waits for another's rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import ray.data

from twinspire.features.supervision import SupervisionConfig
from twinspire.training.batches import Columns, shuffled_with_negatives, split
from twinspire.training.labelled import labelled_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from twinspire.training.config import NegativeConfig

BATCHES_AT_ONCE = 16  # taken from Ray Data in one go and cut in the worker: the cost of a hand-over is paid once
ROWS = ("query", "user", "item", "stop", "weight")


@dataclass(frozen=True)
class Share:
    """Rank `rank`'s part of a stream that `world` workers learn from: every `world`th row of the log."""

    rank: int = 0
    world: int = 1


class ReadPart:
    """One task: read a part file's rows that fall to this share, shuffle, add negatives. Runs without Ray as any
    callable."""

    def __init__(
        self,
        negatives: NegativeConfig,
        batch_size: int,
        items: int,
        seed: int,
        share: Share | None = None,
        supervision: SupervisionConfig | None = None,
    ) -> None:
        self.negatives, self.batch_size, self.items, self.seed = negatives, batch_size, items, seed
        self.share = share or Share()
        self.supervision = supervision or SupervisionConfig()

    def __call__(self, task: dict[str, Any]) -> Columns:
        """Columns of the share's L rows of a part, with `random` (L, R), `extra` (L, E) and labelled negatives.

        `task` holds arrays of one value: `path`, `round`, `part` and, where they are not 0, `first`, the part's first
        row in the log, and `skip`, how many of the L rows to leave out because they were learned from before.
        """
        path, round_, rank = Path(str(task["path"][0])), int(task["round"][0]), self.share.rank
        mine = first_row(self.share, round_, _number(task, "first"))
        frame = pl.read_parquet(path, columns=list(ROWS), glob=False)
        kept = slice(mine, None, self.share.world)
        rows = {name: frame[name].to_numpy()[kept] for name in ROWS}
        rng = np.random.default_rng([self.seed, round_, int(task["part"][0]), rank])
        rows |= labelled_columns(path, rows["query"], kept, self.negatives, self.supervision, self.batch_size, rng)
        columns = shuffled_with_negatives(rows, self.negatives, self.batch_size, self.items, rng)
        return {name: values[_number(task, "skip") :] for name, values in columns.items()}


def first_row(share: Share, round_: int, first: int) -> int:
    """The first row of a part that falls to a share. Which rows these are changes from round to round."""
    return (share.rank - round_ - first) % share.world


def tasks(lengths: Sequence[int], seed: int, rounds: int, share: Share, learned: int) -> list[dict[str, int]]:
    """What is left of `rounds` over parts of these `lengths` after `learned` rows of the share."""
    starts = np.cumsum([0, *lengths])
    found = []
    for round_ in range(rounds):
        for part in np.random.default_rng([seed, round_]).permutation(len(lengths)).tolist():
            first = int(starts[part])
            size = len(range(first_row(share, round_, first), lengths[part], share.world))
            if learned < size:
                found.append({"round": round_, "part": part, "first": first, "skip": learned})
            learned = max(learned - size, 0)
    return found


def stream(parts: Path, read: ReadPart, rounds: int, learned: int = 0) -> ray.data.Dataset:
    """All rounds over the part files of a folder, but for the first `learned` rows of the reader's share, as one Ray
    dataset of rows. Its order is that of the tasks."""
    paths = sorted(parts.glob("*.parquet"))
    lengths = [pq.read_metadata(path).num_rows for path in paths]
    left = [
        task | {"path": str(paths[task["part"]])} for task in tasks(lengths, read.seed, rounds, read.share, learned)
    ]
    source = ray.data.from_items(left, override_num_blocks=max(len(left), 1))
    rows = source.map_batches(read, batch_size=1, batch_format="numpy", num_cpus=0.25)
    rows.context.execution_options.preserve_order = True
    return rows


def batches(shard: ray.data.DataIterator | ray.data.Dataset, batch_size: int) -> Iterator[Columns]:
    """Batches of `batch_size` rows from a worker's stream."""
    many = shard.iter_batches(batch_size=BATCHES_AT_ONCE * batch_size, batch_format="numpy", prefetch_batches=2)
    for columns in many:
        yield from split(columns, batch_size)


def _number(task: dict[str, Any], name: str) -> int:
    return int(task[name][0]) if name in task else 0
