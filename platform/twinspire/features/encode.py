"""Encode a dataset once: columns to arrays, the log to rows of ids. What training reads is this folder, not the
tables."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.features.dictionaries import Dictionaries
from twinspire.features.encodings import id_bags
from twinspire.features.log import LogConfig, Positives, read_positives
from twinspire.features.resolve import resolve
from twinspire.features.spec import FeatureConfig, History, Id
from twinspire.features.store import Events, FeatureStore
from twinspire.text import Tokeniser, TokeniserConfig

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.dataset import Dataset

PART_ROWS = 200_000


@dataclass(frozen=True)
class EncodedMeta:
    """What the encoded log holds. `trained_until` is the time of its last positive, ISO 8601 UTC."""

    positives: int
    training: int
    validation: int
    trained_until: str | None
    fingerprint: str


@dataclass(frozen=True)
class Encoded:
    """An encoded dataset: a folder with `store/`, `dictionaries/`, `rows/` and `meta.json`.

    `rows/training` and `rows/all` are part files of query, user, item (i32), stop (i64), weight (f32), in random
    order: the
    positives before the validation window, and every positive. `rows/validation.parquet` is the window.
    """

    folder: Path
    meta: EncodedMeta

    @property
    def store(self) -> FeatureStore:
        """The feature store, memory-mapped."""
        return FeatureStore.load(self.folder / "store")

    @property
    def dictionaries(self) -> Dictionaries:
        """The feature dictionaries."""
        return Dictionaries.load(self.folder / "dictionaries")

    @property
    def validation(self) -> pl.DataFrame:
        """The validation window's rows."""
        return pl.read_parquet(self.folder / "rows" / "validation.parquet")

    def clicks(self, part: str) -> np.ndarray:
        """Positives of each item, (n,), in `training` or `all`; unweighted, as batches draw them."""
        clicks: np.ndarray = np.load(self.folder / f"clicks.{part}.npy")
        return clicks

    @classmethod
    def open(cls, folder: Path) -> Encoded:
        """Open an encoded folder."""
        return cls(folder, EncodedMeta(**json.loads((folder / "meta.json").read_text())))


def encode(
    dataset: Dataset,
    features: FeatureConfig,
    log: LogConfig,
    tokeniser: TokeniserConfig,
    folder: Path,
    seed: int,
) -> tuple[Encoded, Positives]:
    """Encode `dataset` into a new folder; memory is bounded by the catalogue and the positives (28 bytes each).

    Errors: ConfigError for a feature that the tables cannot feed, DatasetError for a log without positives.
    """
    shutil.rmtree(folder, ignore_errors=True)
    positives = read_positives(dataset, log)
    starts = np.where(positives.user >= 0, positives.event_offsets[np.maximum(positives.user, 0)], positives.stop)
    config = resolve(features, dataset, positives.stop - starts)
    clicks = np.bincount(positives.item, minlength=len(dataset.items))
    min_count = next((feature.min_count for feature in config.item if isinstance(feature, Id)), 1)
    ids, id_rows = id_bags(clicks, min_count)
    dictionaries = Dictionaries.fit(
        config, Tokeniser(tokeniser), dataset.items, dataset.users, positives.queries, id_rows
    )
    store = _build_store(dataset, dictionaries, positives, ids)
    store.save(folder / "store")
    (folder / "dictionaries").mkdir()
    dictionaries.save(folder / "dictionaries")
    meta = _write_rows(positives, log, dataset, folder, seed)
    (folder / "meta.json").write_text(json.dumps(asdict(meta)))
    return Encoded(folder, meta), positives


def _build_store(dataset: Dataset, dictionaries: Dictionaries, positives: Positives, ids: object) -> FeatureStore:
    users = pl.DataFrame({"user_id": positives.user_ids})
    if dataset.users is not None:
        users = users.join(dataset.users, on="user_id", how="left", maintain_order="left")
    histories = {
        feature.name("query"): (feature.table("query"), feature.length)
        for feature in dictionaries.config.query
        if isinstance(feature, History)
    }
    wanted = {feature.name("query") for feature in dictionaries.config.query if not isinstance(feature, str)}
    return FeatureStore(
        items=dictionaries.items(dataset.items, ids),  # type: ignore[arg-type]
        queries={name: bags for name, bags in dictionaries.text(positives.queries).items() if name in wanted},
        users=dictionaries.users(users),
        events=Events(positives.event_items, positives.event_offsets),
        histories=histories,
        n_items=len(dataset.items),
    )


def _write_rows(positives: Positives, log: LogConfig, dataset: Dataset, folder: Path, seed: int) -> EncodedMeta:
    """Write the rows in random order, so that any part file is a sample of the log."""
    rows = pl.DataFrame({name: getattr(positives, name) for name in ("query", "user", "item", "stop", "weight")})
    n = len(positives)
    window = round(n * log.validation_share)
    rng = np.random.default_rng(seed)
    (folder / "rows").mkdir()
    for part, upto in (("training", n - window), ("all", n)):
        _write_parts(rows[rng.permutation(upto)], folder / "rows" / part)
        clicks = np.bincount(positives.item[:upto], minlength=len(dataset.items))
        np.save(folder / f"clicks.{part}.npy", clicks)
    chosen = np.sort(rng.permutation(window)[: log.validation_cap]) + n - window
    rows[chosen].write_parquet(folder / "rows" / "validation.parquet")
    until = datetime.fromtimestamp(positives.time[-1] / 1e6, UTC).isoformat() if n else None
    return EncodedMeta(n, n - window, len(chosen), until, dataset.fingerprint)


def _write_parts(rows: pl.DataFrame, folder: Path) -> None:
    folder.mkdir()
    for number, start in enumerate(range(0, max(len(rows), 1), PART_ROWS)):
        rows[start : start + PART_ROWS].write_parquet(folder / f"part-{number:05d}.parquet")
