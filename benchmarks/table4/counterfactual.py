"""What the arms truly do: the same visits, far more than an experiment has, are paid to every arm's shop.

Visits come in blocks as large as an experiment, so that the long tail is as long as there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.table4.measures import Lift, Values, tail_of, true_lifts, values
from benchmarks.table4.shop import Offline
from twinspire.simulation import draw_visits, play

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from benchmarks.table4.shop import Ranking, Retrieval
    from twinspire.simulation import Searches, Truth
    from twinspire.simulation.arrays import Ints


def pay(
    truth: Truth,
    ranking: Ranking,
    retrievals: Mapping[str, Retrieval],
    users: Ints,
    blocks: int,
    seed: int,
    progress: Callable[[int], None] = lambda searches: None,
) -> dict[str, list[Searches]]:
    """By arm and block what came of a visit of each of these shoppers; `progress` hears of searches."""
    found: dict[str, list[Searches]] = {arm: [] for arm in retrievals}
    for block in range(blocks):
        visits = draw_visits(truth, seed, users, block)
        for arm, adds in retrievals.items():
            found[arm].append(play(truth, visits, Offline(ranking, adds), seed))
            progress(len(found[arm][-1].visit))
    return found


def lifts(control: list[Searches], treatment: list[Searches], visits: int, queries: int) -> dict[tuple[str, str], Lift]:
    """By slice and metric, of blocks of `visits` visits each and a pool of `queries`."""
    of: tuple[list[dict[tuple[str, str], Values]], ...] = ([], [])
    for pair in zip(control, treatment, strict=True):
        tail = tail_of(list(pair), queries)
        for blocks, searches in zip(of, pair, strict=True):
            blocks.append(values(searches, visits, tail))
    return true_lifts(_together(of[0]), _together(of[1]))


def _together(blocks: list[dict[tuple[str, str], Values]]) -> dict[tuple[str, str], Values]:
    return {
        key: Values(np.concatenate([one[key].x for one in blocks]), np.concatenate([one[key].y for one in blocks]))
        for key in blocks[0]
    }
