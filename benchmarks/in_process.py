"""Fits for benchmarks that compare models: the product's encoding and learner in one process, without Ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from twinspire.features.encode import encode
from twinspire.training.batches import shuffled_with_negatives, split
from twinspire.training.build import new_model
from twinspire.training.learner import Learner
from twinspire.training.validation import item_vectors, query_vectors

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.config import Config
    from twinspire.dataset import Dataset
    from twinspire.features.encode import Encoded
    from twinspire.model import TwoTower


@dataclass(frozen=True)
class Fitted:
    """A model trained on the log's `training` part, and its validation window: later clicks that it never saw."""

    model: TwoTower
    encoded: Encoded
    vectors: np.ndarray  # (n, D)
    queries: np.ndarray  # (Q, H, D), of each row of the window
    window: pl.DataFrame  # query, user, item, stop; item is what was clicked
    texts: pl.Series  # (Q,)


def fit(source: Dataset, config: Config, folder: Path) -> Fitted:
    """Encode into `folder` and train for `training.rounds`, on one thread; the seed decides everything."""
    torch.set_num_threads(1)
    torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
    training = config.training
    encoded, positives = encode(source, config.features, config.log, config.text, folder, training.seed)
    store = encoded.store
    model = new_model(encoded.dictionaries, config.model, seed=training.seed, sparse=True)
    frame = pl.read_parquet(encoded.folder / "rows" / "training" / "*.parquet")
    rows = {name: frame[name].to_numpy() for name in frame.columns}
    steps = training.rounds * (len(frame) // training.batch_size)
    learner = Learner(model, store, encoded.clicks("training"), config, steps)
    rng = np.random.default_rng(training.seed)
    for _ in range(training.rounds):
        for batch in split(
            shuffled_with_negatives(rows, config.negatives, training.batch_size, store.n_items, rng),
            training.batch_size,
        ):
            learner.step(batch)
    model.eval()
    window = encoded.validation
    return Fitted(
        model=model,
        encoded=encoded,
        vectors=item_vectors(model, store, np.arange(store.n_items)).numpy(),
        queries=query_vectors(model, encoded, len(window)),
        window=window,
        texts=positives.queries.gather(window["query"]),
    )
