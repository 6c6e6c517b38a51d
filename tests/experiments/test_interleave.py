"""Team drafts: fair, complete, the same for the same seed."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from twinspire.experiments.interleave import interleave

ranking = st.lists(st.integers(0, 30), unique=True, max_size=20)


@given(first=ranking, second=ranking, k=st.integers(0, 25), seed=st.integers(0, 2**53))
def test_every_item_once_each_team_in_its_own_order_and_neither_ahead_by_more_than_one(first, second, k, seed):
    items, teams = interleave(first, second, k, seed)
    assert (items, teams) == interleave(first, second, k, seed)
    assert len(items) == len(teams) == min(k, len({*first, *second}))
    assert len(set(items)) == len(items)
    for team, own in enumerate((first, second)):
        drafted = [item for item, of in zip(items, teams, strict=True) if of == team]
        assert drafted == sorted(drafted, key=own.index)
    for place in range(len(items)):
        ahead = teams[: place + 1].count(0) - teams[: place + 1].count(1)
        rest = [set(own) - set(items[:place]) for own in (first, second)]
        assert abs(ahead) <= 1 or not all(rest)


def test_by_hand():
    for seed in range(20):
        items, teams = interleave([1, 2, 3], [1, 4, 5], 4, seed)
        assert (items[:2], teams[:2]) in (([1, 4], [0, 1]), ([1, 2], [1, 0]))
        assert teams.count(0) == 2


def test_either_team_begins_as_often():
    begins = Counter(interleave([1], [2], 2, seed)[1][0] for seed in range(2000))
    assert stats.binomtest(begins[0], 2000).pvalue > 1e-5
