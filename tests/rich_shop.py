"""A small shop with everything that makes features hard: nulls, all column types, odd column names, many scripts,
users that only the log knows, histories longer than what is read of them, weighed in several ways. And a bundle of it
with two heads.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import tiny_shop

from twinspire import dataset
from twinspire.bundle import Bundle
from twinspire.config import load_config
from twinspire.features.encode import Encoded, encode

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.features.log import Positives

TYPES = ("running shoes", "rain jacket", "Lampe", "кружка", "红色 手机壳", "かばん", "كتاب", "café mug")
BRANDS = ("Acme", "Ünal & Co", "北风", None)
USERS, CLICKS = 15, 500
PROFILE = ("gender", "member", "visits", "user", "size/colour")
QUERY = [
    "{kind: ngram_bag, stream: words}",
    "{kind: ngram_bag, stream: grams}",
    *(f"{{kind: category, column: {column}}}" for column in PROFILE),
    "{kind: number, column: income}",
    "{kind: history, of: id, length: 20}",
    "{kind: history, of: brand, weights: {click: 1, cart: 2.5, purchase: 7}, half_life_days: 3, length: 20}",
    "{kind: history, of: category, weights: {purchase: 1}, length: 3}",
    "{kind: history, of: price, weights: {cart: 2, click: 1}, half_life_days: 0.01, length: 4}",
]
SETTINGS = ("log.fill_up_to=0", "model.heads=2", "features.history_length=5", f"features.query=[{', '.join(QUERY)}]")
EVENTS = ("click", "click", "cart", "purchase", "impression")


@dataclass(frozen=True)
class Rich:
    """The bundle and what it was made of; the encoded folder has the same dictionaries as the bundle."""

    data: Path
    folder: Path
    bundle: Bundle
    encoded: Encoded
    positives: Positives


def make(folder: Path) -> Rich:
    """Write the dataset, fit it without Ray, load the bundle."""
    data = _write(folder / "data")
    out = tiny_shop.fit_without_ray(data, folder / "rich", SETTINGS)
    config = load_config(None, SETTINGS)
    source = dataset.read(data)
    encoded, positives = encode(
        source, config.features, config.log, config.text, folder / "encoded", config.training.seed
    )
    return Rich(data, out, Bundle.load(out), encoded, positives)


def _write(data: Path) -> Path:
    data.mkdir(parents=True)
    rng = np.random.default_rng(11)
    items = pl.DataFrame(
        [
            {
                "item_id": f"{type_}-{n}",
                "title": f"{brand or ''} {type_} {colour}",
                "brand": brand,
                "category": f"shop > {type_} > {colour}" if n % 5 else None,
                "price": float(rng.integers(1, 200)) if n % 3 else None,
            }
            for n, (type_, brand, colour) in enumerate(
                (t, b, c) for t in TYPES for b in BRANDS for c in ("red", "rouge")
            )
        ]
    )
    items.write_parquet(data / "items.parquet")
    some = range(USERS)
    pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in some],
            "gender": [("f", "m", None)[n % 3] for n in some],
            "member": [(True, False, None)[n // 2 % 3] for n in some],
            "visits": [(1, 2, 3, None)[n % 4] for n in some],
            "income": [None if n % 4 == 3 else n * 1000.5 for n in some],
            "size/colour": [("M > blue", "L > red")[n % 2] for n in some],
            "user": [("new", "old")[n % 2] for n in some],
            "history": [("long", "short")[n % 2] for n in some],
            "joined": [date(2020, 1, 1 + n) for n in some],
        }
    ).write_parquet(data / "users.parquet")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    rows = []
    for n in range(CLICKS):
        item = items.row(int(rng.integers(len(items))), named=True)
        user = int(rng.integers(USERS + 5)) if rng.random() < 0.8 else None
        rows.append(
            {
                "timestamp": start + timedelta(hours=5 * (n // 2)),
                "query": item["title"].split()[-2],
                "item_id": item["item_id"],
                "user_id": None if user is None else f"u{user}",
                "session_id": None if n % 7 == 0 else f"s{n // 3}",
                "event": EVENTS[n % len(EVENTS)],
            }
        )
    log = pl.DataFrame(rows).with_columns(pl.col("timestamp").dt.cast_time_unit("us"))
    log.write_parquet(data / "interactions.parquet")
    return data
