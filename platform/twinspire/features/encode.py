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

from twinspire.features.dictionaries import Dictionaries, item_text
from twinspire.features.encodings import id_bags
from twinspire.features.log import LogConfig, Positives, read_positives
from twinspire.features.resolve import resolve
from twinspire.features.rows import RowWriter
from twinspire.features.spec import FeatureConfig, History, Id
from twinspire.features.store import FeatureStore
from twinspire.features.supervision import Labels, SupervisionConfig
from twinspire.features.title_log import with_titles
from twinspire.text import Tokeniser, TokeniserConfig

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.dataset import Dataset


@dataclass(frozen=True)
class EncodedMeta:
    """What the encoded log holds. `trained_until` is the time of its last positive, ISO 8601 UTC.

    `positives` counts the log's and `titles` the pseudo-queries of the titles that a thin log is filled up with;
    `training` (those before the validation window) and `validation` count both. `rows` counts the
    rows of each part, labelled ones included, and `supervision` what supervises the whole log: rows of positive
    pairs, and negative pairs by source.
    """

    positives: int
    titles: int
    training: int
    validation: int
    trained_until: str | None
    fingerprint: str
    rows: dict[str, int]
    supervision: dict[str, int]


@dataclass(frozen=True)
class Encoded:
    """An encoded dataset: a folder with `store/`, `dictionaries/`, `rows/` and `meta.json`.

    `rows/training` and `rows/all` are part files of query, user, item (i32), stop (i64), weight (f32), in random
    order: the positives before the validation window, and every positive, each with labelled positives among them.
    Where asked for, `impressions` is a list of the items that the row's search showed in vain.
    `negatives/<part>` are the negative pairs by query; `rows/validation.parquet` is the window.
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
        return pl.read_parquet(self.folder / "rows" / "validation.parquet", glob=False)

    def clicks(self, part: str) -> np.ndarray:
        """Rows of each item, (n,), in `training` or `all`; unweighted, as batches draw them."""
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
    *,
    supervision: SupervisionConfig | None = None,
    impressions: bool = False,
) -> tuple[Encoded, Positives]:
    """Encode `dataset` into a new folder; memory is bounded by the catalogue and the positives (28 bytes each).

    `supervision` says what supervises besides the log (None: the defaults). `impressions` adds each positive's
    unclicked impressions; they, and mining skipped items, take memory for one row an item of each search.
    The positives that come back are the log's own. Errors: ConfigError for a feature that the tables cannot feed,
    DatasetError for a log without impressions where they are asked for.
    """
    supervision = supervision or SupervisionConfig()
    shutil.rmtree(folder, ignore_errors=True)
    positives = read_positives(dataset, log)
    thin = len(positives) < log.fill_up_to and not impressions
    config = resolve(features, dataset, positives.history_lengths)
    learnt = with_titles(positives, item_text(dataset.items, features), seed) if thin else positives
    clicks = positives.item_clicks(len(dataset.items))
    min_count = next((feature.min_count for feature in config.item if isinstance(feature, Id)), 1)
    ids, id_rows = id_bags(clicks, min_count)
    labels = Labels.read(dataset, learnt.queries, supervision)
    texts = labels.for_vocabulary(config.min_query_count)
    dictionaries = Dictionaries.fit(config, Tokeniser(tokeniser), dataset.items, dataset.users, texts, id_rows)
    store = _build_store(dataset, dictionaries, learnt, labels.queries, ids)
    store.save(folder / "store")
    (folder / "dictionaries").mkdir()
    dictionaries.save(folder / "dictionaries")
    counts = RowWriter(dataset, learnt, labels, log, supervision, impressions, folder, seed).write()
    until = datetime.fromtimestamp(positives.time[-1] / 1e6, UTC).isoformat() if len(positives) else None
    meta = EncodedMeta(
        positives=len(positives),
        titles=len(learnt) - len(positives),
        trained_until=until,
        fingerprint=dataset.fingerprint,
        **counts,
    )
    (folder / "meta.json").write_text(json.dumps(asdict(meta)))
    return Encoded(folder, meta), positives


def _build_store(
    dataset: Dataset, dictionaries: Dictionaries, positives: Positives, queries: pl.Series, ids: object
) -> FeatureStore:
    users = pl.DataFrame({"user_id": positives.user_ids})
    if dataset.users is not None:
        users = users.join(dataset.users, on="user_id", how="left", maintain_order="left")
    wanted = {feature.name("query") for feature in dictionaries.config.query if not isinstance(feature, str)}
    return FeatureStore(
        items=dictionaries.items(dataset.items, ids),  # type: ignore[arg-type]
        queries={name: bags for name, bags in dictionaries.text(queries).items() if name in wanted},
        users=dictionaries.users(users),
        events=positives.events,
        histories=[feature for feature in dictionaries.config.query if isinstance(feature, History)],
        n_items=len(dataset.items),
    )
