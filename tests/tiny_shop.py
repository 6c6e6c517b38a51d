"""A tiny shop made by hand, and a real bundle trained on it in a second, without Ray, for other tests to use.

120 items: colour x thing x brand. 40 shoppers of 4 profiles; each clicks what the query names, of the brand that the
shopper's gender prefers, so that personalisation has something to find.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

COLOURS = ("red", "blue", "green", "black", "white")
THINGS = {"shoes": "clothes", "jacket": "clothes", "lamp": "home", "mug": "home", "chair": "home", "tent": "outdoor"}
BRANDS = ("acme", "borealis", "cirrus", "delta")
BRAND_OF = {"f": "acme", "m": "borealis"}
USERS, CLICKS = 40, 1_600
START = datetime(2026, 1, 1, tzinfo=UTC)


def write_dataset(folder: Path) -> Path:
    """Write items, users and interactions in the table contract. The same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    items = pl.DataFrame(
        [
            {"title": f"{brand} {colour} {thing}", "brand": brand, "category": f"shop > {THINGS[thing]}"}
            for colour, thing, brand in itertools.product(COLOURS, THINGS, BRANDS)
        ]
    )
    items = items.select(
        pl.format("i{}", pl.int_range(pl.len())).alias("item_id"),
        pl.all(),
        pl.Series("price", np.round(rng.uniform(5, 100, len(items)), 2)),
    )
    users = pl.DataFrame(
        {
            "user_id": [f"u{n}" for n in range(USERS)],
            "gender": [("f", "m")[n % 2] for n in range(USERS)],
            "age_band": [("18-30", "31-60")[n // 2 % 2] for n in range(USERS)],
        }
    )
    items.write_parquet(folder / "items.parquet")
    users.write_parquet(folder / "users.parquet")
    _interactions(items, users, rng).write_parquet(folder / "interactions.parquet")
    return folder


def _interactions(items: pl.DataFrame, users: pl.DataFrame, rng: np.random.Generator) -> pl.DataFrame:
    ids = dict(zip(items["title"], items["item_id"], strict=True))
    rows = []
    for n in range(CLICKS):
        colour, thing = rng.choice(COLOURS), rng.choice(list(THINGS))
        user = int(rng.integers(USERS))
        brand = BRAND_OF[users["gender"][user]] if rng.random() < 0.9 else rng.choice(BRANDS)
        rows.append(
            {
                "timestamp": START + timedelta(minutes=30 * n),
                "query": f"{colour} {thing}" if rng.random() < 0.7 else str(thing),
                "item_id": ids[f"{brand} {colour} {thing}"],
                "user_id": None if rng.random() < 0.1 else f"u{user}",
                "session_id": f"s{n}",
                "event": "purchase" if rng.random() < 0.1 else "click",
                "position": int(rng.integers(1, 11)),
            }
        )
    return pl.DataFrame(rows).with_columns(
        pl.col("timestamp").dt.cast_time_unit("us"), pl.col("position").cast(pl.Int32)
    )


def fit_without_ray(
    data: Path, out: Path, settings: tuple[str, ...] = (), *, lexical: float = 0, memory: float = 0
) -> Path:
    """Fit a small model by hand (encode, learn, embed, index) and write the bundle `out`.

    `lexical` and `memory` are the weights of words and earlier clicks beside the vectors.
    """
    import torch

    from twinspire import dataset
    from twinspire.bundle import Parts, write_bundle
    from twinspire.config import load_config
    from twinspire.features.encode import encode
    from twinspire.index.build import build_index
    from twinspire.index.filters import filterable
    from twinspire.index.fuse import clicked_memory
    from twinspire.index.hybrid import Fusion
    from twinspire.index.lexical import LexicalIndex
    from twinspire.training.build import new_model
    from twinspire.training.validation import item_vectors, query_vectors, validate

    config = load_config(None, ("model.dim=16", "model.hidden=16", "negatives.count=64", *settings))
    source = dataset.read(data, require_interactions=True)
    with tempfile.TemporaryDirectory() as scratch:
        encoded, positives = encode(
            source, config.features, config.log, config.text, Path(scratch) / "encoded", config.training.seed
        )
        store = encoded.store
        model = new_model(encoded.dictionaries, config.model, seed=config.training.seed, sparse=False)
        with _one_thread():
            _learn(model, encoded, config, rounds=3)
        model.eval()
        vectors = item_vectors(model, store, np.arange(store.n_items)).numpy()
        index, spec = build_index(vectors, query_vectors(model, encoded, 20), config.index)
        found = validate(model, store, encoded.validation, 0)
        fusion = Fusion(lexical=lexical, memory=memory, half_life_days=30)
        resolved = config.model_copy(update={"features": encoded.dictionaries.config})
        parts = Parts(
            dataset=source,
            encoded=encoded,
            positives=positives,
            architecture=_architecture(encoded, config),
            model=model,
            vectors=vectors,
            index=index,
            index_spec=spec,
            config=json.loads(resolved.model_dump_json()),
            training={"best_mrr": found.mrr, "best_round": 3},
            run_id=None,
            lexical=LexicalIndex.build(encoded.dictionaries, store.items, positives.item_clicks(store.n_items)),
            memory=clicked_memory(positives, fusion.half_life_days),
            fusion=fusion,
            filters=filterable(source.items, config.index.filters),
        )
        with torch.inference_mode():
            write_bundle(parts, out)
    return out


@contextlib.contextmanager
def _one_thread():
    """Batches this small lose more to threads that wait for each other than they gain."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _architecture(encoded, config):
    from twinspire.training.build import architecture

    return architecture(encoded.dictionaries, config.model)


def _learn(model, encoded, config, rounds: int) -> None:
    from twinspire.training.batches import shuffled_with_negatives, split
    from twinspire.training.learner import Learner

    frame = pl.read_parquet(encoded.folder / "rows" / "all" / "*.parquet")
    rows = {name: frame[name].to_numpy() for name in frame.columns}
    size, store = config.training.batch_size, encoded.store
    learner = Learner(model, store, encoded.clicks("all"), config, rounds * (len(frame) // size))
    rng = np.random.default_rng(config.training.seed)
    for _ in range(rounds):
        for batch in split(shuffled_with_negatives(rows, config.negatives, size, store.n_items, rng), size):
            learner.step(batch)
