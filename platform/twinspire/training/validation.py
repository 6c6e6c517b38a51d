"""How good a model is on the validation window: exact retrieval of the clicked items. Decides when training stops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from twinspire.model import best_head, to_bags

if TYPE_CHECKING:
    import polars as pl
    from numpy.typing import NDArray

    from twinspire.features.encode import Encoded
    from twinspire.features.store import FeatureStore
    from twinspire.model import TwoTower

MAX_ITEMS = 50_000
BATCH = 512


class ValidationMetrics(NamedTuple):
    """Means over the window's positives, ranks among the catalogue (or a sample of it that holds every clicked
    item)."""

    mrr: float
    hit_at_1: float
    hit_at_10: float


@torch.inference_mode()
def item_vectors(model: TwoTower, store: FeatureStore, rows: NDArray[Any], device: str = "cpu") -> torch.Tensor:
    """Vectors of these items, (M, D)."""
    return torch.cat(
        [
            model.items(to_bags(store.item_features(rows[start : start + 4 * BATCH]), device))
            for start in range(0, len(rows), 4 * BATCH)
        ]
    )


@torch.inference_mode()
def query_vectors(model: TwoTower, encoded: Encoded, count: int) -> NDArray[np.float32]:
    """Vectors (Q, H, D) of up to `count` validation queries with their shoppers; what the index is measured with."""
    window = encoded.validation.head(count)
    columns = (window[name].to_numpy() for name in ("query", "user", "stop"))
    vectors: NDArray[np.float32] = model.queries(to_bags(encoded.store.query_features(*columns))).numpy()
    return vectors


@torch.inference_mode()
def validate(
    model: TwoTower, store: FeatureStore, window: pl.DataFrame, seed: int, device: str = "cpu"
) -> ValidationMetrics:
    """Rank each positive's item for its query and shopper. The model is left in training mode if it was."""
    was_training = model.training
    model.eval()
    rows = candidate_rows(store.n_items, window["item"].to_numpy(), seed, MAX_ITEMS)
    items = item_vectors(model, store, rows, device)
    target = np.searchsorted(rows, window["item"].to_numpy())
    columns = {name: window[name].to_numpy() for name in ("query", "user", "stop")}
    ranks = []
    for start in range(0, len(window), BATCH):
        part = slice(start, start + BATCH)
        features = store.query_features(columns["query"][part], columns["user"][part], columns["stop"][part])
        scores = best_head(model.queries(to_bags(features, device)), items)
        own = scores.gather(1, torch.from_numpy(target[part]).to(device)[:, None])
        ranks.append(1 + (~(scores <= own)).sum(1).cpu().numpy())  # a model that gives NaN ranks last, not first
    model.train(was_training)
    rank = np.concatenate(ranks) if ranks else np.zeros(0)
    if len(rank) == 0:
        return ValidationMetrics(0.0, 0.0, 0.0)
    return ValidationMetrics(float((1 / rank).mean()), float((rank <= 1).mean()), float((rank <= 10).mean()))


def candidate_rows(n_items: int, wanted: NDArray[Any], seed: int, most: int) -> NDArray[Any]:
    """Sorted item rows: all of a catalogue of up to `most`, else a sample with the wanted ones."""
    if n_items <= most:
        return np.arange(n_items)
    sample = np.random.default_rng(seed).choice(n_items, most, replace=False)
    return np.union1d(sample, wanted)
