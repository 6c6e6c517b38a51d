"""What shoppers do with a list of results: look from the top, click, put into the cart, buy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator

    from twinspire.simulation.arrays import Bools, Doubles, Floats, Ints

_GO_ON, _GO_ON_AFTER_CLICK = 0.88, 0.62
_CART, _BUY = 0.32, 0.45
_UNSEEN = 2  # results loaded below the last one looked at


@dataclass(frozen=True)
class Actions:
    """What happened to slates (B, P). `delay` is seconds after the query; where nothing happened it means nothing."""

    looked: Bools
    loaded: Bools
    clicked: Bools
    carted: Bools
    bought: Bools
    click_delay: Doubles
    cart_delay: Doubles
    buy_delay: Doubles


def act(rng: Generator, slate: Ints, utility: Floats) -> Actions:
    """Let B shoppers act on slates (B, P) of item rows (-1: empty) with click chances `utility` (B, P) once looked at.

    Examination is a cascade: each next result is looked at with a fixed chance, smaller after a click, so that what
    stands lower is seen less. Carts and purchases are likelier for what is liked more.
    """
    would = rng.random(slate.shape, dtype=np.float32) < utility
    stay = rng.random(slate.shape) < np.where(would, _GO_ON_AFTER_CLICK, _GO_ON)
    reached = np.cumprod(stay, axis=1).astype(bool)
    looked = np.ones(slate.shape, dtype=bool)
    looked[:, 1:] = reached[:, :-1]
    loaded = np.ones(slate.shape, dtype=bool)
    loaded[:, _UNSEEN + 1 :] = looked[:, 1 : max(slate.shape[1] - _UNSEEN, 1)]
    looked &= slate >= 0
    loaded &= slate >= 0
    clicked = would & looked
    carted = clicked & (rng.random(slate.shape) < _CART * (0.4 + utility))
    bought = carted & (rng.random(slate.shape) < _BUY * (0.5 + utility))
    read = 1.0 + rng.exponential(1.5, slate.shape)
    dwell = rng.exponential(14.0, slate.shape) * clicked
    click_delay = np.cumsum(read, axis=1) + np.cumsum(dwell, axis=1) - dwell
    cart_delay = click_delay + 4.0 + rng.exponential(25.0, slate.shape)
    buy_delay = cart_delay + 30.0 + rng.exponential(180.0, slate.shape)
    return Actions(looked, loaded, clicked, carted, bought, click_delay, cart_delay, buy_delay)
