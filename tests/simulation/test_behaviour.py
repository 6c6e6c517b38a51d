"""How simulated shoppers act on results."""

from __future__ import annotations

import numpy as np

from twinspire.simulation.arrays import stream
from twinspire.simulation.behaviour import act


def test_actions_follow_one_from_the_other() -> None:
    rng = stream(1, "test")
    slate = rng.integers(-1, 50, size=(2000, 12)).astype(np.int32)
    utility = (rng.random(slate.shape) * (slate >= 0)).astype(np.float32)
    actions = act(rng, slate, utility)
    assert (actions.clicked <= actions.looked).all()
    assert (actions.looked <= actions.loaded).all()
    assert (actions.loaded <= (slate >= 0)).all()
    assert (actions.carted <= actions.clicked).all()
    assert (actions.bought <= actions.carted).all()
    assert (actions.click_delay < actions.cart_delay).all()
    assert (actions.cart_delay < actions.buy_delay).all()
    assert actions.bought.any()


def test_lower_positions_are_looked_at_less_and_better_items_clicked_more() -> None:
    rng = stream(2, "test")
    slate = np.ones((20_000, 10), dtype=np.int32)
    utility = np.where(np.arange(20_000)[:, None] % 2 == 0, 0.4, 0.1).astype(np.float32) * np.ones((1, 10), np.float32)
    actions = act(rng, slate, utility)
    looked = actions.looked.mean(axis=0)
    assert (np.diff(looked) < 0).all()
    assert looked[0] == 1.0
    first = actions.clicked[:, 0]
    np.testing.assert_allclose([first[::2].mean(), first[1::2].mean()], [0.4, 0.1], atol=0.02)


def test_one_result_is_enough() -> None:
    actions = act(stream(3, "test"), np.zeros((5, 1), dtype=np.int32), np.ones((5, 1), dtype=np.float32))
    assert actions.clicked.all()
