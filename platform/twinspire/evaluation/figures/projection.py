"""Item vectors on a plane: t-SNE of a sample, and how much the whole space keeps categories together."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.manifold import TSNE

if TYPE_CHECKING:
    from numpy.typing import NDArray

PERPLEXITY = 30
LEAST_POINTS = 5
DENSE_ENOUGH = 400  # points that show where a group is densest
ROUNDS = 500  # of gradient descent: half the usual, and half the time


def plane(vectors: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    """t-SNE of unit vectors (n, D) to (n, 2), in [-1, 1]; the same seed gives the same picture.

    Raises ValueError for fewer than 5 points.
    """
    if len(vectors) < LEAST_POINTS:
        raise ValueError(f"t-SNE needs {LEAST_POINTS} points, not {len(vectors)}")
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    reducer = TSNE(2, perplexity=perplexity, metric="cosine", init="pca", max_iter=ROUNDS, random_state=seed, n_jobs=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        found = np.asarray(reducer.fit_transform(np.ascontiguousarray(vectors)), np.float64)
    found -= found.mean(0)
    return np.asarray(found / np.abs(found).max(), np.float64)


def sample(groups: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """Up to `size` rows, sorted, drawn evenly at random from those whose group (n,) is not negative."""
    rows = np.flatnonzero(groups >= 0)
    if len(rows) > size:
        rows = np.random.default_rng(seed).choice(rows, size, replace=False)
    return np.sort(rows).astype(np.int64)


def purity(vectors: NDArray[np.float32], groups: NDArray[np.int64], k: int = 10) -> tuple[float, float]:
    """Mean share of an item's `k` nearest others that are of its group, and what that would be by chance.

    Measured in the embedding itself, vectors (n, D) of length 1, not in a picture of it.
    """
    count = len(vectors)
    k = min(k, count - 1)
    same = 0.0
    for start in range(0, count, 1024):
        near = vectors[start : start + 1024] @ vectors.T
        own = np.arange(len(near))
        near[own, start + own] = -np.inf
        neighbours = np.argpartition(-near, k - 1, axis=1)[:, :k]
        same += float((groups[neighbours] == groups[start : start + 1024, None]).mean(1).sum())
    sizes = np.unique(groups, return_counts=True)[1]
    chance = float((sizes * (sizes - 1)).sum() / (count * (count - 1)))
    return same / count, chance


def above(points: NDArray[np.float64], gap: float = 0.035) -> NDArray[np.float64]:
    """A place for the name of a group of points (n, 2): just above the densest part of it, (2,).

    A mean or median falls between the clusters of a group that has two.
    """
    if len(points) > DENSE_ENOUGH:
        points = points[:: len(points) // DENSE_ENOUGH + 1]
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    near = np.sort(distance, axis=1)[:, : len(points) // 2 + 1]
    centre = near.mean(1).argmin()
    dense = points[distance[centre] <= near[centre].max()]
    return np.array([dense[:, 0].mean(), dense[:, 1].max() + gap])
