"""Where the clicked item stands: 1 + the items that score higher, ties broken at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import hypergeom

from twinspire.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray


@compiled
def _count(
    scores: NDArray[np.float32],
    items: NDArray[np.int32],
    higher: NDArray[np.int64],
    equal: NDArray[np.int64],
) -> None:
    for i in range(len(items)):
        row = scores[i]
        own = row[items[i]]
        above = same = numbers = 0
        for j in range(len(row)):
            above += row[j] > own
            same += row[j] == own
            numbers += row[j] == row[j]
        higher[i] = above
        equal[i] = same if numbers == len(row) else 0


def ranks(scores: NDArray[np.float32], items: NDArray[np.int32], luck: NDArray[np.float64]) -> NDArray[np.int64]:
    """Ranks (B,), 1 the best, of the clicked `items` (B,) by `scores` (B, n_items).

    `luck` (B,), uniform in [0, 1), places the clicked item among those of its score: an item that shares
    its score with m others gets each of the m + 1 places with the same chance. A score that is not a number
    is refused with ValueError.
    """
    higher, equal = np.empty(len(items), np.int64), np.empty(len(items), np.int64)
    _count(scores, items, higher, equal)
    if (equal == 0).any():
        raise ValueError("a score is not a number")
    place: NDArray[np.int64] = 1 + higher + (luck * equal).astype(np.int64)
    return place


def chance_among_random(ranks: NDArray[np.int64], *, k: int, n_items: int, n_random: int) -> NDArray[np.float64]:
    """Probability (B,) of a place in the first `k` against `n_random` others (paper, 6.2.1: 1,024).

    The others are drawn from the catalogue without replacement. How many of them rank higher is
    hypergeometric in the item's rank in the full catalogue, so the expectation over all draws is exact, and
    no draw is made. A catalogue with fewer others is taken whole.
    """
    others = n_items - 1
    distinct, place = np.unique(ranks, return_inverse=True)
    chance = hypergeom.cdf(k - 1, max(others, 1), distinct - 1, min(n_random, others))
    return np.asarray(chance, np.float64)[place]
