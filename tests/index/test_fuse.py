"""The weights of words and memory, chosen on planted logs: what decides in the log is what gets weight."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from twinspire import dataset
from twinspire.features.encode import Encoded, encode
from twinspire.features.log import LogConfig, Positives
from twinspire.features.spec import FeatureConfig
from twinspire.index.fuse import (
    HALF_LIVES,
    MEMORY_GRID,
    TREND_DAYS,
    TREND_GRID,
    RetrievalConfig,
    clicked_memory,
    clicked_trends,
    measure_fusion,
)
from twinspire.index.hybrid import Fusion
from twinspire.index.lexical import LexicalIndex
from twinspire.text import TokeniserConfig

ITEMS = 100
START = datetime(2026, 1, 1, tzinfo=UTC)
Log = list[tuple[float, str, int]]  # day, query, item


class Planted:
    """A catalogue of items `thing1 kind1`, ... with this log, of which the last half is the validation window."""

    def __init__(self, folder: Path, log: Log, **settings: Any) -> None:
        folder.mkdir()
        titles = [f"thing{n} kind{n}" for n in range(ITEMS)]
        ids = [f"i{n}" for n in range(ITEMS)]
        pl.DataFrame({"item_id": ids, "title": titles}).write_parquet(folder / "items.parquet")
        days, queries, items = zip(*log, strict=True)
        times = pl.Series([START + timedelta(days=day) for day in days]).dt.cast_time_unit("us")
        pl.DataFrame(
            {"timestamp": times, "query": queries, "item_id": [f"i{item}" for item in items], "event": "click"}
        ).write_parquet(folder / "interactions.parquet")
        config = LogConfig(**{"fill_up_to": 0, "validation_share": 0.5} | settings)
        made = encode(
            dataset.read(folder), FeatureConfig(), config, TokeniserConfig(hash_bits=16), folder / "encoded", 0
        )
        self.encoded: Encoded = made[0]
        self.positives: Positives = made[1]
        clicks = self.positives.item_clicks(ITEMS)
        self.lexical = LexicalIndex.build(self.encoded.dictionaries, self.encoded.store.items, clicks)

    def measure(self, model: Any, *, taught: bool = False, **config: Any) -> Fusion:
        return measure_fusion(
            model, self.encoded, self.positives, self.lexical, RetrievalConfig(**config), taught=taught
        )


class Blind:
    """A model to which all items are the same."""

    def queries(self, features: Any) -> torch.Tensor:
        return torch.zeros(features["words"].size, 1, 4)

    def items(self, features: Any) -> torch.Tensor:
        return torch.zeros(features["words"].size, 4)


class Knowing:
    """A model that gives a query's own item `lead` more than any other, known by the words of the query."""

    def __init__(self, planted: Planted, answers: dict[str, int], lead: float) -> None:
        text, self.lead = planted.encoded.dictionaries.text_one, lead
        self.answers = {tuple(text(query)["words"].values.tolist()): item for query, item in answers.items()}

    def queries(self, features: Any) -> torch.Tensor:
        rows, offsets = features["words"].rows, features["words"].offsets
        bags = [tuple(rows[a:b].tolist()) for a, b in pairwise(offsets)]
        return self.lead * torch.eye(ITEMS)[[self.answers[bag] for bag in bags]][:, None]

    def items(self, features: Any) -> torch.Tensor:
        return torch.eye(ITEMS)[: features["words"].size]


@pytest.fixture
def planted(tmp_path: Path) -> Callable[..., Planted]:
    return lambda log, **settings: Planted(tmp_path / "shop", log, **settings)


def new_queries_by_title() -> Log:
    """300 clicks, each for a query of its own that names the item's title."""
    return [(n / 10, f"thing{n % ITEMS} x{n}", n % ITEMS) for n in range(300)]


def repeating() -> Log:
    """Ten queries whose words no title has, each asked every day for one and the same item."""
    return [(n / 10, f"query{n % 10}", 7 * (n % 10)) for n in range(400)]


def test_words_get_weight_where_titles_decide(planted: Callable[..., Planted]) -> None:
    found = planted(new_queries_by_title()).measure(Blind())
    assert found.lexical > 0
    assert found.memory == 0, "no query comes again"
    assert "150 validation positives, words by 150 of new queries" in found.measured


def test_words_get_as_much_as_it_takes_to_outweigh_a_wrong_model(planted: Callable[..., Planted]) -> None:
    """Every query has half its words in its title; the model gives 0.25 to another item."""
    log = new_queries_by_title()
    here = planted(log)
    wrong = Knowing(here, {query: (item + 1) % ITEMS for _, query, item in log}, lead=0.25)
    (coverage,) = here.lexical.coverage(here.lexical.query(log[0][1]), np.array([0]))
    assert here.measure(wrong).lexical * coverage > 0.25


def test_words_get_none_where_what_they_say_is_noise(planted: Callable[..., Planted]) -> None:
    """Queries name a title, and something else is clicked, which the model knows."""
    log = [(n / 10, f"thing{n % ITEMS} x{n % 2}", (37 * n + 11) % ITEMS) for n in range(300)]
    here = planted(log)
    found = here.measure(Knowing(here, {query: item for _, query, item in log}, lead=0.04))
    assert found.lexical == 0


def test_of_equals_the_vectors_lead(planted: Callable[..., Planted]) -> None:
    """Words are right, and the model is too: no weight is needed."""
    log = new_queries_by_title()
    here = planted(log)
    assert here.measure(Knowing(here, {query: item for _, query, item in log}, lead=0.5)).lexical == 0


def test_words_are_weighed_on_new_queries_where_there_are_enough(planted: Callable[..., Planted]) -> None:
    """Known queries, twice as many, name wrong titles; the new ones name the right ones."""
    known = [(0.0, f"thing{n} y", (n + 50) % ITEMS) for n in range(ITEMS)]
    old = [(1.0, *known[n % ITEMS][1:]) for n in range(300)]
    later = [(2.0 + n / 1000, *known[n % ITEMS][1:]) for n in range(250)]
    new = [(2.0 + n / 1000, f"thing{n % ITEMS} x{n}", n % ITEMS) for n in range(125)]
    here = planted([*known[:75], *old, *later, *new])
    found = here.measure(Blind(), memory=0)
    assert "words by 125 of new queries" in found.measured
    assert found.lexical > 0


def test_memory_gets_weight_where_clicks_repeat(planted: Callable[..., Planted]) -> None:
    found = planted(repeating()).measure(Blind())
    assert found.memory == MEMORY_GRID[0], "any weight orders alike beside a model that knows nothing"
    assert found.half_life_days in HALF_LIVES
    assert found.lexical == 0
    assert "words by 200 of all queries" in found.measured


def test_memory_gets_none_where_no_click_repeats(planted: Callable[..., Planted]) -> None:
    """Ten queries; what was clicked for one is never clicked for it again."""
    log = [(n / 10, f"query{n % 10}", (n // 10 + 10 * (n % 10)) % ITEMS) for n in range(400)]
    assert planted(log).measure(Blind()).memory == 0


def test_memory_forgets_as_fast_as_taste_changes(planted: Callable[..., Planted]) -> None:
    """For a hundred days everybody took the first items, then for four days the second, which they go on to take."""
    before = [(n / 20, f"query{n % 10}", n % 10) for n in range(2000)]
    after = [(100 + n / 40, f"query{n % 10}", 10 + n % 10) for n in range(160)]
    window = [(104 + n / 1000, f"query{n % 10}", 10 + n % 10) for n in range(200)]
    fast = planted([*before, *after, *window], validation_share=200 / 2360).measure(Blind())
    assert fast.memory > 0
    assert fast.half_life_days == 3


def later_favourites(daily: int) -> Log:
    """A hundred days in which queries, each asked once, end at any item alike; then four days, and the window of 200
    clicks after them, in which they end at the first five."""
    before = [(n / 20, f"query{n}", n % ITEMS) for n in range(2000)]
    after = [(100 + n / daily, f"late{n}", n % 5) for n in range(4 * daily)]
    return [*before, *after, *((104 + n / 1000, f"last{n}", n % 5) for n in range(200))]


def test_a_trend_gets_weight_where_items_rise_of_late(planted: Callable[..., Planted]) -> None:
    found = planted(later_favourites(40), validation_share=200 / 2360).measure(Blind())
    assert found.trend == TREND_GRID[0], "any weight orders alike beside a model that knows nothing"
    assert found.trend_days in TREND_DAYS
    assert found.memory == 0


def test_a_trend_gets_none_where_none_rises(planted: Callable[..., Planted]) -> None:
    assert planted(new_queries_by_title()).measure(Blind()).trend == 0


def test_the_trends_of_a_whole_log_have_its_validation_too(planted: Callable[..., Planted]) -> None:
    here = planted([(0, "a b", 1), (9, "a b", 2), (9, "c", 2)])
    rising = clicked_trends(here.positives, ITEMS, half_life_days=1)
    assert rising[2] > 0 > rising[1]
    assert (rising[[0, *range(3, ITEMS)]] == 0).all()


@pytest.mark.parametrize(("taught", "lexical"), [(False, 0.7), (True, 0.05)])
def test_too_few_cases_choose_nothing(planted: Callable[..., Planted], taught: bool, lexical: float) -> None:
    found = planted(repeating()[:198]).measure(Blind(), taught=taught, candidates=17)
    assert found == Fusion(lexical=lexical, memory=0, candidates=17, measured="nothing")


def test_a_log_filled_up_with_titles_measures_nothing(planted: Callable[..., Planted]) -> None:
    here = planted(repeating(), fill_up_to=1000)
    assert here.encoded.meta.titles > 0
    assert here.encoded.meta.validation >= 200
    assert here.measure(Blind(), lexical_default=0.55).measured == "nothing"
    assert here.measure(Blind(), lexical_default=0.55).lexical == 0.55


def test_no_model_measures_nothing(planted: Callable[..., Planted]) -> None:
    assert planted(repeating()).measure(None, taught=True, lexical_taught=0.2).lexical == 0.2


@pytest.mark.parametrize("log", [repeating, new_queries_by_title])
def test_what_is_configured_is_kept(planted: Callable[..., Planted], log: Callable[[], Log]) -> None:
    """Also a memory that gains nothing, and one that would gain where it is 0."""
    here = planted(log())
    both = here.measure(Blind(), lexical=0.33, memory=0.25, half_life_days=11)
    assert (both.lexical, both.memory, both.half_life_days) == (0.33, 0.25, 11)
    assert here.measure(Blind(), lexical=0.33).lexical == 0.33
    assert here.measure(Blind(), memory=0.25).memory == 0.25
    assert here.measure(Blind(), memory=0).memory == 0
    assert here.measure(Blind(), trend=0.3, trend_days=5).trend == 0.3
    assert here.measure(Blind(), trend=0.3, trend_days=5).trend_days == 5
    assert here.measure(Blind(), half_life_days=11).half_life_days == 11
    assert here.measure(None, memory=0.25, half_life_days=11) == Fusion(
        lexical=0.7, memory=0.25, half_life_days=11, measured="nothing"
    )


def test_the_memory_of_a_whole_log_has_its_validation_too(planted: Callable[..., Planted]) -> None:
    positives = planted([(0, "a b", 1), (1, "a b", 2), (2, "c", 3), (2, "c", 3)]).positives
    memory = clicked_memory(positives, half_life_days=1)
    items, shares = memory.of("a b")
    assert items.tolist() == [1, 2]
    assert shares.tolist() == pytest.approx([0.25 / 1.75, 0.5 / 1.75])
    assert memory.of("c")[1].tolist() == pytest.approx([2 / 3])
    assert positives.item_clicks(5).tolist() == [0, 1, 1, 2, 0]
