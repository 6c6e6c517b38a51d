from concurrent.futures import ThreadPoolExecutor
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lexicon import dictionaries_of, index_of

from twinspire.index import lexical
from twinspire.index.lexical import LexicalIndex, Stream
from twinspire.ragged import Ragged

WORDS = ["red", "shoe", "reed", "手", "机壳", "x", "42"]
TITLES = st.lists(st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join), min_size=1, max_size=8)
QUERIES = st.lists(st.sampled_from([*WORDS, "zebra", "☃", "縞"]), max_size=4).map(" ".join)
STREAMS = ("words", "grams")


def coverage(index: LexicalIndex, text: str) -> list[float]:
    return index.coverage(index.query(text), np.arange(index.size)).tolist()


def candidates(index: LexicalIndex, text: str, count: int) -> list[int]:
    return index.candidates(index.query(text), count).tolist()


def brute_force(titles: list[str], text: str) -> dict[str, np.ndarray]:
    """Each stream's part of the coverage of every title, by sets of tokens and no vocabulary; (n,) each."""
    tokeniser = dictionaries_of(titles).tokeniser
    parts, spoken = {}, 0
    for name in STREAMS:
        of_titles = getattr(tokeniser.encode(titles), name)
        bags = [set(of_titles.row(n).tolist()) for n in range(len(titles))]
        asked = set(getattr(tokeniser.encode_one(text), name).values.tolist())
        spoken += bool(asked)
        n = len(titles)
        found = {token: sum(token in bag for bag in bags) for token in asked}
        idf = {token: min(log(1 + (n - f + 0.5) / (f + 0.5)), log(1 + n)) for token, f in found.items()}
        total = sum(idf.values()) or 1
        parts[name] = np.array([sum(idf[token] for token in asked & bag) / total for bag in bags])
    return {name: part / max(spoken, 1) for name, part in parts.items()}


def test_idf_counts_items_not_occurrences() -> None:
    """log(1 + (n - f + 1/2) / (f + 1/2)): rows 1, 2 and 3 are in two, one and none of three items."""
    stream = Stream.of(Ragged.from_rows([[2, 1, 1], [1], []]), 4)
    np.testing.assert_allclose(stream.idf[1:], [log(1 + 1.5 / 2.5), log(1 + 2.5 / 1.5), log(1 + 3.5 / 0.5)], rtol=1e-6)
    assert [stream.tokens.row(n).tolist() for n in range(3)] == [[1, 2], [1], []]


def test_coverage_by_hand() -> None:
    """Of three titles two have `red` (idf log 1.6), one has `shoe` (log 8/3); nobody has `zebra` (log 4)."""
    index = index_of(["red shoe", "red hat", "blue hat"])
    red, shoe, zebra = log(1.6), log(8 / 3), log(4)
    assert coverage(index, "red") == pytest.approx([1, 1, 0])
    # The words are red, shoe and their pair; the trigrams three of red and four of shoe.
    words, grams = red / (red + 2 * shoe), 3 * red / (3 * red + 4 * shoe)
    assert coverage(index, "red shoe") == pytest.approx([1, (words + grams) / 2, 0], abs=1e-6)
    # Red, zebra and their pair; three trigrams and five.
    words, grams = red / (red + 2 * zebra), 3 * red / (3 * red + 5 * zebra)
    assert coverage(index, "red zebra") == pytest.approx([(words + grams) / 2, (words + grams) / 2, 0], abs=1e-6)


def test_only_the_asked_rows_in_their_order() -> None:
    index = index_of(["red shoe", "red hat", "blue hat"])
    whole = np.array(coverage(index, "blue shoe"), np.float32)
    rows = np.array([2, 0, 2])
    np.testing.assert_array_equal(index.coverage(index.query("blue shoe"), rows), whole[rows])
    assert index.coverage(index.query("blue shoe"), rows[:0]).shape == (0,)


@given(TITLES, QUERIES, st.lists(QUERIES, max_size=3))
def test_coverage_is_that_of_sets_of_tokens(titles: list[str], text: str, log_queries: list[str]) -> None:
    """Whatever the log's queries bring into the vocabulary."""
    found = np.array(coverage(index_of(titles, queries=log_queries * 2), text))
    np.testing.assert_allclose(found, sum(brute_force(titles, text).values()), atol=1e-5)
    assert (found >= 0).all()
    assert (found <= 1 + 1e-6).all()


@given(TITLES, QUERIES)
def test_a_word_that_no_item_has_lowers_every_coverage(titles: list[str], text: str) -> None:
    index = index_of(titles)
    for less, more in zip(coverage(index, f"{text} quagga"), coverage(index, text), strict=True):
        assert less < more or less == more == 0


def test_one_stream_alone_is_the_whole_coverage() -> None:
    """Chinese has no trigrams; words and trigrams count half where there are both."""
    index = index_of(["红色 手机壳", "手机", "red 壳"])
    assert coverage(index, "手机壳")[0] == pytest.approx(1)
    assert 0 < coverage(index, "手机壳")[1] < 1
    assert coverage(index, "red 壳")[2] == pytest.approx(1)


@pytest.mark.parametrize("text", ["", "  ", "☃ !?"])
def test_a_query_of_no_words_covers_nothing(text: str) -> None:
    index = index_of(["red shoe", ""])
    assert coverage(index, text) == [0, 0]
    assert candidates(index, text, 5) == []


def test_a_word_that_only_the_log_has_brings_no_candidates() -> None:
    index = index_of(["red shoe"], queries=["sneaker", "sneaker white"])
    assert candidates(index, "sneaker", 5) == []
    assert coverage(index, "sneaker") == [0]


@given(st.data(), TITLES, QUERIES, st.integers(1, 9))
def test_candidates_share_most_words_and_of_equals_are_the_most_clicked(
    data: st.DataObject, titles: list[str], text: str, count: int
) -> None:
    clicks = data.draw(st.lists(st.integers(0, 3), min_size=len(titles), max_size=len(titles)))
    index = index_of(titles, clicks)
    found = candidates(index, text, count)
    words = brute_force(titles, text)["words"]
    some = np.flatnonzero(words > 0).tolist()
    assert len(found) == len(set(found)) == min(count, len(some))
    left = set(some) - set(found)
    for inside in found:
        assert words[inside] > 0
        for outside in left:
            assert words[inside] > words[outside] - 0.002, "popularity breaks ties and no more"
            if abs(words[inside] - words[outside]) < 1e-6:
                assert clicks[inside] >= clicks[outside]


@pytest.fixture(scope="module")
def large() -> tuple[LexicalIndex, np.ndarray]:
    """7,000 items, which are several blocks, of words from one in three to one in thousands of them; and the clicks."""
    rng = np.random.default_rng(0)
    share = np.geomspace(0.3, 0.0005, 16)
    titles = [" ".join(f"w{n}" for n in np.flatnonzero(drawn)) for drawn in rng.random((7000, 16)) < share]
    clicks = rng.permutation(7000)  # no two alike, so that there is one right answer
    return index_of(titles, clicks.tolist()), clicks


@settings(deadline=None)
@given(
    words=st.lists(st.integers(0, 15), min_size=1, max_size=6, unique=True),
    count=st.integers(1, 400),
    kept=st.sampled_from([None, 0.0, 0.01, 0.5, 1.0]),
)
def test_candidates_are_those_of_adding_up_all_postings(
    large: tuple[LexicalIndex, np.ndarray], words: list[int], count: int, kept: float | None
) -> None:
    """By far the most items are never looked at; whoever looks at all of them finds the same."""
    index, clicks = large
    query = index.query(" ".join(f"w{n}" for n in words))
    bags = index.streams["words"].tokens
    owner = np.repeat(np.arange(index.size), bags.lengths)
    weights = dict(zip(*query[index.words], strict=True))
    each = np.array([weights.get(token, 0) for token in range(bags.values.max() + 1)])
    total = np.bincount(owner, each[bags.values], minlength=index.size)
    allowed = None if kept is None else np.random.default_rng(1).random(index.size) < kept
    bitmap = None if allowed is None else np.packbits(allowed, bitorder="little")
    if allowed is not None:
        total[~allowed] = 0
    best = np.lexsort((-clicks, -total.round(5)))[:count]
    expected = best[total[best] > 0]
    assert sorted(index.candidates(query, count, bitmap).tolist()) == sorted(expected.tolist())


def test_threads_share_an_index(large: tuple[LexicalIndex, np.ndarray]) -> None:
    index, _ = large
    asked = [f"w{n} w{n + 5}" for n in range(10)]
    first = [candidates(index, text, 20) for text in asked]
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda text: candidates(index, text, 20), asked * 20)) == first * 20


def test_no_more_postings_are_read_than_the_budget_and_the_rarest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lexical, "MOST_POSTINGS", 10)
    titles = ["red shoe"] * 99 + ["red zebra"]
    index = index_of(titles, [*range(99), 0])
    found = candidates(index, "red zebra", 100)
    # `zebra` and the pair have one posting each; of `red` the eight most clicked are left.
    assert sorted(found) == [*range(91, 99), 99]
    assert sorted(candidates(index, "red", 100)) == [*range(89, 99)]


def test_an_index_is_as_it_was_after_saving(tmp_path: Path) -> None:
    titles, clicks = ["red shoe", "", "红色 手机壳", "red hat"], [3, 0, 1, 9]
    index = index_of(titles, clicks)
    index.save(tmp_path / "lexical")
    loaded = LexicalIndex.load(tmp_path / "lexical", index.dictionaries, np.array(clicks))
    for text in ("red shoe", "手机", "zebra red", ""):
        assert coverage(loaded, text) == coverage(index, text)
        for count in (1, 9):
            assert candidates(loaded, text, count) == candidates(index, text, count)
