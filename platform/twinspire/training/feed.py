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

from twinspire.features.supervision import SupervisionConfig, load_negatives
from twinspire.ragged import Ragged
from twinspire.training.batches import Columns, dealt, shuffled_with_negatives, split

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from twinspire.training.config import NegativeConfig

BATCHES_AT_ONCE = 16  # taken from Ray Data in one go and cut in the worker: the cost of a hand-over is paid once
ROWS = ("query", "user", "item", "stop", "weight")


@dataclass(frozen=True)
class Share:
    """Rank `rank`'s part of a stream that `world` workers learn from: every `world`th row of the log."""

    rank: int = 0
    world: int = 1


class ReadPart:
    """One task: read a part file's rows, shuffle, add negatives. Runs without Ray as any callable.

    Part files stand in an encoded dataset, as `rows/<part>/<file>`: labelled negatives are read from beside them.
    """

    def __init__(
        self,
        negatives: NegativeConfig,
        batch_size: int,
        items: int,
        seed: int,
        supervision: SupervisionConfig | None = None,
    ) -> None:
        self.negatives, self.batch_size, self.items, self.seed = negatives, batch_size, items, seed
        self.supervision = supervision or SupervisionConfig()

    def __call__(self, task: dict[str, Any]) -> Columns:
        """Columns of the part's L rows, with `random` (L, R) and `extra` (L, E).

        Labelled negatives that each row brings, -1 where it has none: `labelled` and `skipped` of the row's query, each
        only where there are such pairs, or `impressions` (L, count) of the row's search.
        """
        path = Path(str(task["path"][0]))
        rng = np.random.default_rng([self.seed, int(task["round"][0]), int(task["part"][0])])
        if self.negatives.kind == "impressions":
            frame = pl.read_parquet(path, columns=[*ROWS, "impressions"])
            shown = frame["impressions"]
            bags = Ragged.from_lengths(shown.explode().drop_nulls().to_numpy(), shown.list.len().to_numpy())
            more = {"impressions": dealt(bags, self.negatives.count, rng)}
        else:
            frame = pl.read_parquet(path, columns=list(ROWS))
            more = self._labelled(frame["query"].to_numpy(), path, rng)
        rows = {name: frame[name].to_numpy() for name in ROWS} | more
        return shuffled_with_negatives(rows, self.negatives, self.batch_size, self.items, rng)

    def _labelled(self, query: NDArray[np.int32], path: Path, rng: np.random.Generator) -> Columns:
        """As many of its query's pairs for each row as fill the places of a batch."""
        places = self.supervision.places(self.negatives.random)
        return {
            source: dealt(bags.gather(query), -(-places[source] // self.batch_size), rng)
            for source, bags in load_negatives(path.parents[2] / "negatives" / path.parent.name).items()
            if places[source]
        }


def stream(parts: Path, read: ReadPart, rounds: int, learned: int = 0) -> ray.data.Dataset:
    """All rounds over the part files of a folder, but for the first `learned` rows of the reader's share, as one Ray
    dataset of rows. Its order is that of the tasks."""
    paths = sorted(parts.glob("*.parquet"))
    lengths = [pq.read_metadata(path).num_rows for path in paths]
    left = [
        task | {"path": str(paths[task["part"]])} for task in tasks(lengths, read.seed, rounds, read.share, learned)
    ]
    source = ray.data.from_items(left, override_num_blocks=max(len(left), 1))
    return source.map_batches(read, batch_size=1, batch_format="numpy", num_cpus=0.25)


def batches(shard: ray.data.DataIterator | ray.data.Dataset, batch_size: int) -> Iterator[Columns]:
    """Batches of `batch_size` rows from a worker's stream."""
    many = shard.iter_batches(batch_size=BATCHES_AT_ONCE * batch_size, batch_format="numpy", prefetch_batches=2)
    for columns in many:
        yield from split(columns, batch_size)


def _number(task: dict[str, Any], name: str) -> int:
    return int(task[name][0]) if name in task else 0
