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
class Draws:
    """Uniform draws in [0, 1) for every place of slates (B, P): whether its item would be clicked, whether the shopper
    reads on behind it, and whether a clicked item is put into the cart and bought."""

    click: Floats
    stay: Doubles
    cart: Doubles
    buy: Doubles

    def reads(self, utility: Floats) -> tuple[Bools, Bools]:
        """Which places (B, P) are reached, and whose items would be clicked there, by click chances (B, P)."""
        would = self.click < utility
        stay = self.stay < np.where(would, _GO_ON_AFTER_CLICK, _GO_ON)
        reached = np.ones(would.shape, dtype=bool)
        reached[:, 1:] = np.cumprod(stay, axis=1).astype(bool)[:, :-1]
        return reached, would


@dataclass(frozen=True)
class Choices:
    """What of slates (B, P) was looked at, clicked, put into the cart, bought."""

    looked: Bools
    clicked: Bools
    carted: Bools
    bought: Bools


@dataclass(frozen=True)
class Actions(Choices):
    """Choices, and what else a log has. `delay` is seconds after the query; where nothing happened it means nothing."""

    loaded: Bools
    click_delay: Doubles
    cart_delay: Doubles
    buy_delay: Doubles


def decide(draws: Draws, slate: Ints, utility: Floats) -> Choices:
    """Let B shoppers act on slates (B, P) of item rows (-1: empty) with click chances `utility` (B, P) once looked at.

    Examination is a cascade: each next result is looked at with a fixed chance, smaller after a click, so that what
    stands lower is seen less. Carts and purchases are likelier for what is liked more.
    """
    reached, would = draws.reads(utility)
    looked = reached & (slate >= 0)
    clicked = would & looked
    carted = clicked & (draws.cart < _CART * (0.4 + utility))
    bought = carted & (draws.buy < _BUY * (0.5 + utility))
    return Choices(looked, clicked, carted, bought)


def act(rng: Generator, slate: Ints, utility: Floats) -> Actions:
    """`decide` by chance, and when each thing happened."""
    shape = slate.shape
    draws = Draws(rng.random(shape, dtype=np.float32), rng.random(shape), rng.random(shape), rng.random(shape))
    done = decide(draws, slate, utility)
    reached, _ = draws.reads(utility)
    loaded = np.ones(shape, dtype=bool)
    loaded[:, _UNSEEN + 1 :] = reached[:, 1 : max(shape[1] - _UNSEEN, 1)]
    loaded &= slate >= 0
    read = 1.0 + rng.exponential(1.5, shape)
    dwell = rng.exponential(14.0, shape) * done.clicked
    click_delay = np.cumsum(read, axis=1) + np.cumsum(dwell, axis=1) - dwell
    cart_delay = click_delay + 4.0 + rng.exponential(25.0, shape)
    buy_delay = cart_delay + 30.0 + rng.exponential(180.0, shape)
    return Actions(done.looked, done.clicked, done.carted, done.bought, loaded, click_delay, cart_delay, buy_delay)
