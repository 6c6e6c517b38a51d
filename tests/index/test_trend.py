"""The items' trends, against numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.index.trend import trends


def test_by_hand() -> None:
    """Ten clicks: eight of item 0 ten half-lives ago, two of item 1 now; their share of what is recent leads to expect
    (8 / 1024 + 2) * 0.8 and * 0.2."""
    item, age = np.array([0] * 8 + [1] * 2), np.array([20.0] * 8 + [0.0] * 2)
    found = trends(item, age, 3, half_life_days=2)
    recent = 8 / 1024 + 2
    expected = [np.log((8 / 1024 + 3) / (0.8 * recent + 3)), np.log((2 + 3) / (0.2 * recent + 3)), 0]
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.integers(0, 9), max_size=50), st.floats(0, 1000), st.floats(0.1, 100))
def test_clicks_of_one_age_are_no_trend(item: list[int], age: float, half_life: float) -> None:
    found = trends(np.array(item, np.int32), np.full(len(item), age), 10, half_life)
    np.testing.assert_allclose(found, 0, atol=1e-6)
