"""From the click log to training rows: who searched what, and what was clicked, as numbers.

A positive is one search (shopper, session, query) and one item of it. Its history is every click, cart and purchase of
the shopper before the search's first event, so that no row sees its own click, what followed from it, or another click
on the same result page.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from twinspire.errors import DatasetError
from twinspire.features.history import DAY, KINDS, Events
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
    fill_up_to: int = Field(
        1_000, ge=0, description="a log of fewer positives is filled up with parts of titles as queries; 0: never"
    )


@dataclass(frozen=True)
class Positives:
    """The log as numbers. All arrays are over positives (P,), in order of time, unless said otherwise.

    `query` row of `queries`, `user` row of `user_ids` or -1, `item` row of the items table, `stop` end of the history
    in `events`, `weight` (P,) f32, `time` microseconds since 1970 (UTC). `events` are those of each user, of every
    kind, whichever kinds make positives.
    """

    query: NDArray[np.int32]
    user: NDArray[np.int32]
    item: NDArray[np.int32]
    stop: NDArray[np.int64]
    weight: NDArray[np.float32]
    time: NDArray[np.int64]
    queries: pl.Series
    user_ids: pl.Series
    events: Events

    def __len__(self) -> int:
        return len(self.query)

    def item_clicks(self, items: int) -> NDArray[np.int64]:
        """Positives of each of so many items, (n,)."""
        return np.bincount(self.item, minlength=items).astype(np.int64)

    @property
    def history_lengths(self) -> NDArray[np.int64]:
        """Number of earlier events of each positive, (P,)."""
        starts = self.events.offsets[np.maximum(self.user, 0)]
        return np.where(self.user >= 0, self.stop - starts, 0)


def read_positives(dataset: Dataset, config: LogConfig) -> Positives:
    """Read the log's positives up to the configured time.

    Errors: DatasetError where the log exists and holds no positive in that time.
    """
    log = _collect(dataset, config)
    users = _user_ids(dataset, log)
    log = numbered(log, "item_id", dataset.items["item_id"], "item")
    log = numbered(log, "user_id", users, "user")
    frame = log.filter("positive")
    queries = frame["query"].unique(maintain_order=True)
    frame = numbered(frame, "query", queries, "query_row")
    events = _events(log.filter(pl.col("user") >= 0), len(users))
    user = frame["user"].to_numpy()
    time = frame["timestamp"].dt.epoch("us").to_numpy()
    return Positives(
        query=frame["query_row"].to_numpy(),
        user=user,
        item=frame["item"].to_numpy(),
        stop=_stops(events, user, frame["searched"].dt.epoch("us").to_numpy()),
        weight=_weights(time, config.half_life_days),
        time=time,
        queries=queries,
        user_ids=users,
        events=events,
    )


def cut_time(dataset: Dataset, config: LogConfig) -> datetime | None:
    """The time before which interactions are used; None: all."""
    if config.until is not None or config.holdout_days == 0 or dataset.interactions is None:
        return config.until
    last = dataset.interactions.select(pl.col("timestamp").max()).collect(engine="streaming").item()
    return None if last is None else last - timedelta(days=config.holdout_days)


def search_log(interactions: pl.LazyFrame, events: tuple[str, ...]) -> pl.DataFrame:
    """Clicks, carts and purchases: timestamp, query (normalised), item_id, user_id, event, searched, positive; by time.

    `searched` is the time of the search's first event: nothing from then on belongs to its history. `positive` is the
    first of `events` on an item of a search.
    """
    search = ["user_id", "session_id", "query"]
    frame = (
        interactions.filter(pl.col("event").is_in(KINDS))
        .select("timestamp", "query", "item_id", "user_id", "session_id", "event")
        .collect(engine="streaming")
        .sort("timestamp", maintain_order=True)
    )
    frame = frame.with_columns(normalise_column(frame["query"]).alias("query"))
    known = pl.col("session_id").is_not_null()
    first = pl.col("timestamp").min().over(search)
    named = pl.col("event").is_in(events)
    repeated = pl.struct(*search, "item_id", named.alias("named")).is_first_distinct().not_() & known
    return frame.with_columns(
        pl.when(known).then(first).otherwise(pl.col("timestamp")).alias("searched"),
        (named & ~repeated).alias("positive"),
    ).drop("session_id")


def _collect(dataset: Dataset, config: LogConfig) -> pl.DataFrame:
    if dataset.interactions is None:
        return pl.DataFrame(
            schema={
                "timestamp": pl.Datetime("us", "UTC"),
                "query": pl.String,
                "item_id": pl.String,
                "user_id": pl.String,
                "event": pl.String,
                "searched": pl.Datetime("us", "UTC"),
                "positive": pl.Boolean,
            }
        )
    interactions = dataset.interactions
    until = cut_time(dataset, config)
    if until is not None:
        interactions = interactions.filter(pl.col("timestamp") < until)
    frame = search_log(interactions, config.events)
    if not frame["positive"].any() and until is not None:
        raise DatasetError(f"interactions: no {', '.join(config.events)} before {until}; nothing to train on")
    return frame


def numbered(frame: pl.DataFrame, column: str, values: pl.Series, name: str) -> pl.DataFrame:
    """The frame with `name`, i32: the row in `values` of each value of a column; -1 where it is null."""
    rows = pl.DataFrame({column: values}).with_row_index(name).cast({name: pl.Int32})
    return frame.join(rows, on=column, how="left", maintain_order="left").with_columns(pl.col(name).fill_null(-1))


def _user_ids(dataset: Dataset, frame: pl.DataFrame) -> pl.Series:
    """Users of the users table in its order, then those that only the log knows."""
    seen = frame["user_id"].drop_nulls().unique(maintain_order=True)
    if dataset.users is None:
        return seen.alias("user_id")
    return pl.concat([dataset.users["user_id"], seen]).unique(maintain_order=True).alias("user_id")


def _events(log: pl.DataFrame, users: int) -> Events:
    """Each user's events in order of time, those of one time in the order of the log."""
    log = log.sort("user", maintain_order=True)
    offsets = np.zeros(users + 1, np.int64)
    np.cumsum(np.bincount(log["user"].to_numpy(), minlength=users), out=offsets[1:])
    kinds = log["event"].replace_strict(KINDS, range(len(KINDS)), return_dtype=pl.Int8)
    return Events(log["item"].to_numpy(), kinds.to_numpy(), log["timestamp"].dt.epoch("us").to_numpy(), offsets)


def _stops(events: Events, user: NDArray[np.int32], searched: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where in the events the history of each positive (P,) stops: before the first event at its search's own time."""
    stops = np.zeros(len(user), np.int64)
    known = np.flatnonzero(user >= 0)
    # Events and searches of a user in one sorted sequence, a search before the events of its own time: the number of
    # events before it, over all users, is its stop.
    owner = np.repeat(np.arange(len(events.offsets) - 1), np.diff(events.offsets))
    is_event = np.repeat([1, 0], [len(owner), len(known)])
    merged = np.lexsort(
        (is_event, np.concatenate([events.times, searched[known]]), np.concatenate([owner, user[known]]))
    )
    before = np.cumsum(is_event[merged])
    searches = is_event[merged] == 0
    stops[known[merged[searches] - len(owner)]] = before[searches]
    return stops


def _weights(time: NDArray[np.int64], half_life_days: float | None) -> NDArray[np.float32]:
    if half_life_days is None or len(time) == 0:
        return np.ones(len(time), np.float32)
    weights: NDArray[np.float32] = np.exp2(-age_in_days(time) / half_life_days).astype(np.float32)
    return weights


def age_in_days(time: NDArray[np.int64]) -> NDArray[np.float64]:
    """Age of clicks, from their times in microseconds, against the last of them."""
    age: NDArray[np.float64] = (time.max(initial=0) - time) / DAY
    return age
