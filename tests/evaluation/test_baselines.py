import numpy as np
import polars as pl
import pytest

from twinspire.evaluation import BM25, Popularity, QueryMemory, TrainingClicks, baselines
from twinspire.evaluation.baselines import QueryOnly
from twinspire.features.query import Query
from twinspire.text import normalise

TITLES = pl.Series(["red shoe", "blue shoe", "green hat", "red red hat", ""])
TRAINING = TrainingClicks.of(
    pl.DataFrame({"query": ["shoe"] * 3 + ["cap"] * 2, "item": pl.Series([1, 1, 2, 2, 3], dtype=pl.Int32)}), 5
)
SYSTEMS = baselines(TITLES, TRAINING)


def cases(*queries: str) -> pl.DataFrame:
    return pl.DataFrame({"query": queries, "item": pl.Series([0] * len(queries), dtype=pl.Int32)})


def order(scores: np.ndarray) -> list[int]:
    return np.argsort(-scores, kind="stable").tolist()


def test_bm25_by_hand() -> None:
    scores = BM25(TITLES).scores(cases("RED!"))[0]
    idf = np.log(1 + (5 - 2 + 0.5) / (2 + 0.5))
    average = 9 / 5
    norm = [1.5 * (0.25 + 0.75 * length / average) for length in (2, 3)]
    assert scores.tolist() == pytest.approx([idf / (1 + norm[0]), 0, 0, 2 * idf / (2 + norm[1]), 0], rel=1e-5)


def test_bm25_finds_nothing_for_unknown_words_and_empty_queries() -> None:
    bm25 = BM25(TITLES)
    assert not bm25.scores(cases("scarf", "", "!?")).any()
    assert not BM25(pl.Series(["", ""])).scores(cases("scarf")).any()


def test_popularity_is_the_same_for_every_query() -> None:
    assert Popularity(TRAINING).scores(cases("a", "b")).tolist() == [[0, 2, 2, 1, 0]] * 2


def test_memory_comes_before_bm25_and_bm25_before_popularity() -> None:
    memory = QueryMemory(TRAINING, BM25(TITLES))
    assert order(memory.scores(cases(" Shoe"))[0]) == [1, 2, 0, 3, 4]
    assert order(memory.scores(cases("cap"))[0]) == [2, 3, 1, 0, 4]
    assert order(memory.scores(cases("hat"))[0])[:2] == [2, 3]  # the shorter title, by BM25
    assert order(memory.scores(cases("unknown"))[0]) == [1, 2, 3, 0, 4]


def test_memory_keeps_ties_of_all_three_keys() -> None:
    scores = QueryMemory(TRAINING, BM25(TITLES)).scores(cases("unknown"))[0]
    assert scores[1] == scores[2]
    assert scores[0] == scores[4]
    assert scores.max() < 1


@pytest.mark.parametrize("system", SYSTEMS)
def test_pairs_have_the_scores_of_the_whole_catalogue(system: QueryOnly) -> None:
    queries, items = ["shoe", "cap", "Shoe ", "red hat"], [2, 3, 0, 3]
    pairs = pl.DataFrame({"query": queries, "item": pl.Series(items, dtype=pl.Int32)})
    whole = system.scores(pairs)
    assert whole.dtype == np.float32
    assert system.pair_scores(pairs).tolist() == whole[np.arange(4), items].tolist()


def test_bm25_with_bigrams_by_hand() -> None:
    """Terms are words and pairs: "red red hat" has red twice, hat, "red red" and "red hat"."""
    scores = BM25(TITLES, bigrams=True).scores(cases("red HAT"))[0]
    lengths = np.array([3, 3, 3, 5, 0])
    norm = 1.5 * (0.25 + 0.75 * lengths / lengths.mean())

    def idf(titles: int) -> float:
        return float(np.log(1 + (5 - titles + 0.5) / (titles + 0.5)))

    red, hat, red_hat = idf(2), idf(2), idf(1)
    expected = [
        red / (1 + norm[0]),
        0,
        hat / (1 + norm[2]),
        2 * red / (2 + norm[3]) + hat / (1 + norm[3]) + red_hat / (1 + norm[3]),
        0,
    ]
    assert scores.tolist() == pytest.approx(expected, rel=1e-5)


def test_bigrams_know_the_order_of_words() -> None:
    titles = pl.Series(["case for phone", "phone case"])
    without, with_them = BM25(titles), BM25(titles, bigrams=True)
    assert with_them.scores(cases("phone case"))[0, 1] > with_them.scores(cases("case phone"))[0, 1]
    assert without.scores(cases("phone case"))[0].tolist() == without.scores(cases("case phone"))[0].tolist()


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("k", [1, 3, 1000])
def test_the_best_are_those_of_the_highest_scores(system: QueryOnly, k: int) -> None:
    for query in (" Red", "shoe", "scarf", "", "!?"):
        scores = system.query_scores(normalise(query))
        found = system.best(Query(query), k)
        assert len(set(found.tolist())) == len(found) == min(k, 5)
        assert scores[found].tolist() == pytest.approx(np.sort(scores)[::-1][:k].tolist())
