"""From the click log to training rows: who searched what, and what was clicked, as numbers.

A positive is one search (shopper, session, query) and one item of it. Its history ends before the search's first
event, so
that no row sees its own click, nor another click on the same result page.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from twinspire.errors import DatasetError
from twinspire.text import normalise_column

if TYPE_CHECKING:
    from datetime import datetime

    from numpy.typing import NDArray

    from twinspire.dataset import Dataset


class LogConfig(BaseModel):
    """Which part of the log trains, and which part of that decides when to stop."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: tuple[Literal["click", "cart", "purchase"], ...] = Field(("click", "cart", "purchase"), min_length=1)
    until: AwareDatetime | None = Field(None, description="use interactions before this time only; has a time zone")
    holdout_days: float = Field(0, ge=0, le=36_500, description="leave out the log's last days, for `evaluate`")
    validation_share: float = Field(
        0.1, gt=0, lt=0.9, description="latest share of positives that decides when to stop"
    )
    validation_cap: int = Field(5_000, ge=1, description="validation positives that are looked at")
    half_life_days: float | None = Field(30, gt=0, description="a positive this old weighs half; null: age is ignored")


@dataclass(frozen=True)
class Positives:
    """The log as numbers. All arrays are over positives (P,), in order of time, unless said otherwise.

    `query` row of `queries`, `user` row of `user_ids` or -1, `item` row of the items table, `stop` end of the
    history in
    `event_items`, `weight` (P,) f32, `time` microseconds since 1970 (UTC). `event_items` (E,) and `event_offsets`
    (U + 1,):
    each user's clicked items, oldest first.
    """

    query: NDArray[np.int32]
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    stop: NDArray[np.int64]
    weight: NDArray[np.float32]
    time: NDArray[np.int64]
    queries: pl.Series
    user_ids: pl.Series
    event_items: NDArray[np.int32]
    event_offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.query)


def read_positives(dataset: Dataset, config: LogConfig) -> Positives:
    """Read the log's positives up to the configured time.

    Errors: DatasetError where the log exists and holds no positive in that time.
    """
    frame = _collect(dataset, config)
    items = pl.DataFrame({"item_id": dataset.items["item_id"]}).with_row_index("item")
    frame = frame.join(items, on="item_id", how="left", maintain_order="left")
    queries = frame["query"].unique(maintain_order=True)
    users = _user_ids(dataset, frame)
    frame = frame.join(
        pl.DataFrame({"query": queries}).with_row_index("query_row"),
        on="query",
        how="left",
        maintain_order="left",
    )
    frame = frame.join(
        pl.DataFrame({"user_id": users}).with_row_index("user"),
        on="user_id",
        how="left",
        maintain_order="left",
    )
    user = frame["user"].cast(pl.Int32).fill_null(-1).to_numpy()
    item = frame["item"].cast(pl.Int32).to_numpy()
    time = frame["timestamp"].dt.epoch("us").to_numpy()
    searched = frame["searched"].dt.epoch("us").to_numpy()
    event_items, event_offsets, stop = _histories(user, item, time, searched, len(users))
    return Positives(
        query=frame["query_row"].cast(pl.Int32).to_numpy(),
        user=user,
        item=item,
        stop=stop,
        weight=_weights(time, config.half_life_days),
        time=time,
        queries=queries,
        user_ids=users,
        event_items=event_items,
        event_offsets=event_offsets,
    )


def cut_time(dataset: Dataset, config: LogConfig) -> datetime | None:
    """The time before which interactions are used; None: all."""
    if config.until is not None or config.holdout_days == 0 or dataset.interactions is None:
        return config.until
    last = dataset.interactions.select(pl.col("timestamp").max()).collect(engine="streaming").item()
    return None if last is None else last - timedelta(days=config.holdout_days)


def search_log(interactions: pl.LazyFrame, events: tuple[str, ...]) -> pl.DataFrame:
    """Positives as columns timestamp, query (normalised), item_id, user_id, searched; sorted by time.

    `searched` is the time of the search's first event: nothing from then on belongs to its history.
    """
    search = ["user_id", "session_id", "query"]
    frame = (
        interactions.filter(pl.col("event").is_in(events))
        .select("timestamp", "query", "item_id", "user_id", "session_id")
        .collect(engine="streaming")
        .sort("timestamp", maintain_order=True)
    )
    frame = frame.with_columns(normalise_column(frame["query"]).alias("query"))
    known = pl.col("session_id").is_not_null()
    first = pl.col("timestamp").min().over(search)
    frame = frame.with_columns(pl.when(known).then(first).otherwise(pl.col("timestamp")).alias("searched"))
    repeated = pl.struct([*search, "item_id"]).is_first_distinct().not_() & known
    return frame.filter(~repeated).drop("session_id")


def _collect(dataset: Dataset, config: LogConfig) -> pl.DataFrame:
    if dataset.interactions is None:
        return pl.DataFrame(
            schema={
                "timestamp": pl.Datetime("us", "UTC"),
                "query": pl.String,
                "item_id": pl.String,
                "user_id": pl.String,
                "searched": pl.Datetime("us", "UTC"),
            }
        )
    interactions = dataset.interactions
    until = cut_time(dataset, config)
    if until is not None:
        interactions = interactions.filter(pl.col("timestamp") < until)
    frame = search_log(interactions, config.events)
    if frame.is_empty() and until is not None:
        raise DatasetError(f"interactions: no {', '.join(config.events)} before {until}; nothing to train on")
    return frame


def _user_ids(dataset: Dataset, frame: pl.DataFrame) -> pl.Series:
    """Users of the users table in its order, then those that only the log knows."""
    seen = frame["user_id"].drop_nulls().unique(maintain_order=True)
    if dataset.users is None:
        return seen.alias("user_id")
    return pl.concat([dataset.users["user_id"], seen]).unique(maintain_order=True).alias("user_id")


def _histories(
    user: NDArray[np.int32],
    item: NDArray[np.int32],
    time: NDArray[np.int64],
    searched: NDArray[np.int64],
    users: int,
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Each user's events in time order, and where each positive's history stops in them."""
    known = np.flatnonzero(user >= 0)
    order = known[np.lexsort((time[known], user[known]))]
    offsets = np.zeros(users + 1, np.int64)
    np.cumsum(np.bincount(user[order], minlength=users), out=offsets[1:])
    stop = np.zeros(len(user), np.int64)
    # Events and searches of a user in one sorted sequence, a search before the events of its own time: the number of
    # events before it, over all users, is its stop.
    both_user = np.concatenate([user[order], user[order]])
    both_time = np.concatenate([time[order], searched[order]])
    is_event = np.repeat([1, 0], len(order))
    merged = np.lexsort((is_event, both_time, both_user))
    before = np.cumsum(is_event[merged]) - is_event[merged]
    searches = is_event[merged] == 0
    stop[order[merged[searches] - len(order)]] = before[searches]
    return item[order], offsets, stop


def _weights(time: NDArray[np.int64], half_life_days: float | None) -> NDArray[np.float32]:
    if half_life_days is None or len(time) == 0:
        return np.ones(len(time), np.float32)
    age_days = (time.max() - time) / 86_400e6
    weights: NDArray[np.float32] = np.exp2(-age_days / half_life_days).astype(np.float32)
    return weights
