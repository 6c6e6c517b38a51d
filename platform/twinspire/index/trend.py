"""What is clicked more of late than in the log as a whole, or less: an addition to the item's score for any query.

Towers learn how popular an item is over the weeks that they learnt from; what is new, on offer or sold out shows
within days, in queries that nobody asked before too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRIOR = 3.0  # clicks beside which the recent ones must show


def trends(
    item: NDArray[np.integer], age_days: NDArray[np.floating], items: int, half_life_days: float
) -> NDArray[np.float32]:
    """Of each of so many items, (n,), the log of its recent clicks over those that its share of all clicks leads to
    expect, both with a prior; 0 where nothing was clicked.

    `item` (P,) are the rows of the clicked items; a click `half_life_days` old counts as half a recent one.
    """
    weight = np.exp2(-age_days / half_life_days)
    recent = np.bincount(item, weight, minlength=items)
    expected = np.bincount(item, minlength=items) * (weight.sum() / max(len(item), 1))
    found: NDArray[np.float32] = np.log((recent + PRIOR) / (expected + PRIOR)).astype(np.float32)
    return found
