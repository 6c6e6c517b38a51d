"""Team-draft interleaving: one list of two arms, so that every shopper compares both (Radlinski et al., CIKM 2008)."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def interleave(first: Sequence[int], second: Sequence[int], k: int, seed: int) -> tuple[list[int], list[int]]:
    """The `k` drafted items, and for each the team, 0 or 1, that drafted it.

    The team with fewer items drafts next, on a tie the one that a coin says; it drafts its best item that is not
    there yet. Where a list has no more, the other goes on alone. The same seed gives the same draft.
    """
    coin, lists = random.Random(seed), (first, second)
    items: list[int] = []
    teams: list[int] = []
    taken: set[int] = set()
    places, drafted = [0, 0], [0, 0]
    while len(items) < k:
        for team in (0, 1):
            while places[team] < len(lists[team]) and lists[team][places[team]] in taken:
                places[team] += 1
        left = [team for team in (0, 1) if places[team] < len(lists[team])]
        if not left:
            break
        if len(left) == 2:
            behind = drafted[0] - drafted[1]
            team = coin.getrandbits(1) if behind == 0 else int(behind > 0)
        else:
            (team,) = left
        item = lists[team][places[team]]
        items.append(item)
        teams.append(team)
        taken.add(item)
        drafted[team] += 1
    return items, teams
