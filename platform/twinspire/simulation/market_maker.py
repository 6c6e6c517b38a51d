"""Simulate a whole dataset: catalogue, shoppers, queries, log, judgements, and the truth beside them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.errors import ConfigError
from twinspire.files import make_folder
from twinspire.simulation.arrays import stream
from twinspire.simulation.brands import brand_count, make_brands
from twinspire.simulation.catalogue import DAYS, NEW_SHARE, items_table, make_items
from twinspire.simulation.judgements import judge
from twinspire.simulation.lexical import rank_pool
from twinspire.simulation.log import LogWriter, Tables
from twinspire.simulation.market import load_market
from twinspire.simulation.policy import Explorer
from twinspire.simulation.queries import make_queries, pool_size
from twinspire.simulation.shoppers import make_shoppers, users_table
from twinspire.simulation.truth import Truth, drifting, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LEAST_ITEMS = 50
_DEPTH = 80  # BM25 results kept for each query


@dataclass(frozen=True)
class Summary:
    """What was made."""

    items: int
    users: int
    interactions: int
    judgements: int
    events: dict[str, int]
    sessions: int
    requests: int
    distinct_queries: int
    click_through: float  # clicks a query
    click_share: float  # clicks of all rows
    no_shared_word: float  # share of clicks whose query has no word in common with the title
    revenue: float


def _check(items: int, users: int, interactions: int, seed: int, out: Path) -> None:
    for name, value, least in (
        ("items", items, _LEAST_ITEMS),
        ("users", users, 1),
        ("interactions", interactions, 1),
    ):
        if value < least:
            raise ConfigError(f"{name} is {value}; a market needs at least {least}")
    if seed < 0:
        raise ConfigError(f"seed is {seed}; give a whole number from 0 on")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file; give a folder for the dataset")
    if out.is_dir() and any(out.iterdir()) and not (out / "truth" / "truth.json").is_file():
        raise ConfigError(f"{out} holds files that no simulation wrote; give a new or empty folder")


def simulate(
    out: Path,
    *,
    items: int,
    users: int,
    interactions: int,
    seed: int = 0,
    new_share: float = NEW_SHARE,
    drift: float = 0.0,
    progress: Callable[[str, int], None] = lambda stage, rows: None,
) -> Summary:
    """Write a dataset in the table contract into `out`, with `truth/` beside its tables.

    The share `new_share` of the items is launched while the log runs. `drift` is how much fashion sways what is liked:
    what is in on the log's first day is out on its last; 0: tastes stay.
    The same arguments give the same bytes. A folder that an earlier simulation wrote is replaced.
    `progress(stage, rows)` hears what is being made and how many log rows came since. Raises ConfigError.
    """
    _check(items, users, interactions, seed, out)
    for name, value, most in (("new_share", new_share, 1.0), ("drift", drift, 10.0)):
        if not 0 <= value <= most:
            raise ConfigError(f"{name} is {value}; give a number from 0 to {most:g}")
    if out.is_dir():
        shutil.rmtree(out)
    make_folder(out)
    market = load_market()
    progress("catalogue", 0)
    brands = make_brands(market, stream(seed, "brands"), brand_count(items))
    facts = make_items(market, brands, stream(seed, "items"), items, new_share)
    table = items_table(market, brands, facts, stream(seed, "titles"))
    table.write_parquet(out / "items.parquet")
    progress("shoppers", 0)
    shoppers = make_shoppers(market, brands, stream(seed, "shoppers"), users)
    people = users_table(market, shoppers)
    people.write_parquet(out / "users.parquet")
    progress("queries", 0)
    pool = make_queries(market, brands, facts, stream(seed, "queries"), pool_size(items, interactions))
    fashion = drifting(stream(seed, "fashion"), int(DAYS) + 1, drift)
    truth = Truth(facts, shoppers, pool, market.targets, market.demand, fashion)
    queries = pl.Series(pool.text)
    lexical = rank_pool(table["title"], queries, facts.popularity, min(_DEPTH, items))
    tables = Tables(table["item_id"], people["user_id"], queries)
    judgements = judge(truth, lexical, Explorer(truth), tables, stream(seed, "judgements"))
    judgements.write_parquet(out / "judgements.parquet")
    progress("log", 0)
    writer = LogWriter(truth, lexical, tables, seed)
    writer.write(out / "interactions", interactions, lambda rows: progress("log", rows))
    arguments: dict[str, float] = {"items": items, "users": users, "interactions": interactions, "seed": seed}
    if (new_share, drift) != (NEW_SHARE, 0.0):
        arguments |= {"new_share": new_share, "drift": drift}
    save(truth, out / "truth", {"arguments": arguments, "categories": market.categories, "types": market.types})
    counts = writer.counts
    clicks = counts.events["click"]
    return Summary(
        items=items,
        users=users,
        interactions=counts.rows,
        judgements=len(judgements),
        events=counts.events,
        sessions=counts.sessions,
        requests=counts.requests,
        distinct_queries=int(np.count_nonzero(counts.typed)),
        click_through=clicks / max(counts.requests, 1),
        click_share=clicks / counts.rows,
        no_shared_word=counts.no_shared_word / max(clicks, 1),
        revenue=counts.revenue,
    )
