from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lexicon import index_of

from twinspire.bundle import Bundle
from twinspire.features.query import Query, Shopper
from twinspire.index import hybrid as hybrid_module
from twinspire.index.build import build_index
from twinspire.index.config import IndexConfig
from twinspire.index.filters import FilterIndex, filterable
from twinspire.index.hybrid import Asked, Fusion, HybridIndex
from twinspire.index.memory import QueryMemory

ITEMS, DIM = 60, 8
TREND = np.linspace(-1, 1, ITEMS, dtype=np.float32)
WORDS = ["red", "blue", "shoe", "hat", "mug", "手"]
TEXTS = st.lists(st.sampled_from([*WORDS, "zebra"]), max_size=3).map(" ".join)


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def hybrid(vectors: np.ndarray, titles: list[str], clicked: dict[str, dict[int, int]], fusion: Fusion) -> HybridIndex:
    """Of items with these vectors and titles, and fresh clicks of each query on items."""
    queries = pl.Series("query", list(clicked), dtype=pl.String)
    pairs = [(q, item) for q, items in enumerate(clicked.values()) for item, n in items.items() for _ in range(n)]
    query, item = np.array(pairs, np.int32).reshape(-1, 2).T
    memory = QueryMemory.build(queries, query, item, np.zeros(len(query)), 7.0)
    index, _ = build_index(vectors, np.zeros((0, 1, vectors.shape[1]), np.float32), IndexConfig())
    return HybridIndex(index, vectors, index_of(titles), memory, fusion, TREND)


def random_titles(rng: np.random.Generator) -> list[str]:
    return [" ".join(rng.choice(WORDS, rng.integers(0, 4))) for _ in range(ITEMS)]


CLICKED = {"red": {3: 5, 7: 1}, "shoe hat": {1: 2}, "never in a title": {59: 9}}


def exact(index: HybridIndex, text: str, asked: Asked) -> np.ndarray:
    """The score of every item, (n,), with what each part says of all of them."""
    products = (asked.vectors @ index.item_vectors.T).max(0)
    shares = np.zeros(len(products))
    total = sum(CLICKED.get(text, {}).values())
    for item, n in CLICKED.get(text, {}).items():
        shares[item] = n / (total + 1)
    coverage = index.lexical.coverage(index.lexical.query(text), np.arange(len(products)))
    fusion = index.fusion
    return products + fusion.lexical * coverage + fusion.memory * shares + fusion.trend * TREND


@given(
    st.lists(st.one_of(TEXTS, st.sampled_from(list(CLICKED))), min_size=1, max_size=4),
    st.integers(1, 3),
    st.integers(1, ITEMS + 9),
    st.sampled_from([(0.7, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.6), (0.4, 0.8, 0.2)]),
)
def test_with_all_items_proposed_search_sorts_the_exact_scores(
    texts: list[str], heads: int, k: int, weights: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(heads)
    fusion = Fusion(lexical=weights[0], memory=weights[1], trend=weights[2], candidates=ITEMS)
    index = hybrid(unit(rng, ITEMS, DIM), random_titles(rng), CLICKED, fusion)
    asked = index.ask(texts, unit(rng, len(texts), heads, DIM))
    scores, rows, head = index.search(asked, k)
    assert (scores.dtype, rows.dtype, head.dtype) == (np.float32, np.int64, np.int8)
    assert scores.shape == rows.shape == head.shape == (len(texts), k)
    wide = min(k, ITEMS)
    assert (rows[:, wide:] == -1).all()
    assert np.isneginf(scores[:, wide:]).all()
    for b, text in enumerate(texts):
        whole, found = exact(index, text, asked[b]), rows[b, :wide]
        assert len(set(found.tolist())) == wide
        np.testing.assert_allclose(scores[b, :wide], np.sort(whole)[::-1][:wide], atol=2e-6)
        np.testing.assert_allclose(scores[b, :wide], whole[found], atol=2e-6)
        products = asked[b].vectors @ index.item_vectors[found].T
        np.testing.assert_allclose(products.max(0), products[head[b, :wide], np.arange(wide)], atol=2e-6)
        alone, _ = index.scores(asked[b], found)
        np.testing.assert_array_equal(alone, scores[b, :wide])
        np.testing.assert_allclose(products.max(0) + index.beside(asked[b], found), alone, atol=2e-6)


BRANDS = pl.DataFrame({"brand": [f"b{row % 7}" for row in range(ITEMS)], "price": np.arange(ITEMS, dtype=float)})
ASKED_FILTERS = [
    {"brand": "b3"},
    {"price": {"min": 7}},
    {"brand": ["b0", "b1"], "price": {"max": 30}},
    {"brand": "x"},
]


@given(
    st.lists(st.one_of(TEXTS, st.sampled_from(list(CLICKED))), min_size=1, max_size=3),
    st.integers(1, 2),
    st.integers(1, ITEMS),
    st.sampled_from(
        [{"brand": "b3"}, {"price": {"min": 7}}, {"brand": ["b0", "b1"], "price": {"max": 30}}, {"brand": "x"}]
    ),
    st.sampled_from([Fusion(), Fusion(lexical=0.4, memory=0.8, trend=0.2, candidates=ITEMS)]),
    st.sampled_from([0, hybrid_module.FEW]),
    st.sampled_from([0.01, 1.1]),
)
def test_filters_leave_the_best_of_what_they_allow(
    texts: list[str], heads: int, k: int, filters: dict, fusion: Fusion, few: int, broad: float
) -> None:
    """By each of the three ways: all that are allowed, a wider search, a search inside the index."""
    rng = np.random.default_rng(heads)
    index = hybrid(unit(rng, ITEMS, DIM), random_titles(rng), CLICKED, fusion)
    index = replace(index, filters=FilterIndex.build(BRANDS, filterable(BRANDS, "auto")))
    asked = index.ask(texts, unit(rng, len(texts), heads, DIM), [filters] * len(texts))
    free = index.ask(texts[:1], asked[0].vectors[None])  # one without filters in the same batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hybrid_module, "FEW", few)
        patch.setattr(hybrid_module, "BROAD", broad)
        scores, rows, _ = index.search([*asked, *free], k)
    allowed = index.filters.select(filters).few(ITEMS)
    wide = min(k, len(allowed))
    for b in range(len(texts)):
        found = rows[b, :wide]
        assert set(found.tolist()) <= set(allowed.tolist())
        assert (rows[b, wide:] == -1).all()
        whole, _ = index.scores(asked[b], allowed)
        np.testing.assert_allclose(scores[b, :wide], np.sort(whole)[::-1][:wide], atol=2e-6)
        np.testing.assert_allclose(scores[b, :wide], index.scores(asked[b], found)[0], atol=2e-6)
    np.testing.assert_array_equal(rows[-1], index.search(free, k)[1][0])


@pytest.mark.parametrize("heads", [1, 3])
def test_without_weights_it_is_the_vector_index(heads: int) -> None:
    rng = np.random.default_rng(0)
    index = hybrid(unit(rng, ITEMS, DIM), random_titles(rng), CLICKED, Fusion())
    assert index.fusion.is_plain
    queries = unit(rng, 3, heads, DIM)
    for k in (1, 10, ITEMS + 5):
        found = index.search(index.ask(list(CLICKED), queries), k)
        for ours, theirs in zip(found, index.vectors.search(queries, k), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("plain", [True, False])
def test_no_queries(plain: bool) -> None:
    rng = np.random.default_rng(0)
    fusion = Fusion() if plain else Fusion(lexical=1, memory=1)
    index = hybrid(unit(rng, ITEMS, DIM), random_titles(rng), CLICKED, fusion)
    assert [part.shape for part in index.search(index.ask([], unit(rng, 0, 2, DIM)), 4)] == [(0, 4)] * 3


def far_item() -> tuple[np.ndarray, np.ndarray]:
    """Vectors of which the last is the opposite of the query's, and the query's (1, 1, D)."""
    rng = np.random.default_rng(0)
    query = unit(rng, 1, 1, DIM)
    vectors = unit(rng, ITEMS, DIM)
    vectors[-1] = -query[0, 0]
    return vectors, query


@pytest.mark.parametrize(
    ("part", "text"), [({"lexical": 3.0}, "quagga"), ({"memory": 4.0}, "never in a title"), ({}, "quagga")]
)
def test_words_and_memory_bring_items_that_the_vectors_would_not(part: dict[str, float], text: str) -> None:
    """One candidate each: the last item is the worst of all for the vectors, and the best with 3 more or 4 * 9/10."""
    vectors, query = far_item()
    titles = ["red shoe"] * (ITEMS - 1) + ["quagga"]
    index = hybrid(vectors, titles, CLICKED, Fusion(candidates=1, **part))
    asked = index.ask([text], query)
    scores, rows, _ = index.search(asked, 1)
    assert (rows[0, 0] == ITEMS - 1) == bool(part)
    if part:
        added = 3.0 if "lexical" in part else 4 * 0.9
        assert scores[0, 0] == pytest.approx(added - 1, abs=1e-5)


def test_parts_that_weigh_nothing_need_not_be_there() -> None:
    vectors, query = far_item()
    whole = hybrid(vectors, ["red shoe"] * ITEMS, CLICKED, Fusion(lexical=0.5))
    without = HybridIndex(whole.vectors, vectors, whole.lexical, None, whole.fusion)
    for ours, theirs in zip(
        without.search(without.ask(["red"], query), 5), whole.search(whole.ask(["red"], query), 5), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_threads_get_the_answers_of_one_thread() -> None:
    rng = np.random.default_rng(1)
    index = hybrid(unit(rng, ITEMS, DIM), random_titles(rng), CLICKED, Fusion(lexical=0.6, memory=0.6, candidates=5))
    texts = ["red shoe", "red", "手", "shoe hat", "mug zebra"] * 8
    asked = index.ask(texts, unit(rng, len(texts), 2, DIM))
    alone = [index.search([each], 7) for each in asked]
    with ThreadPoolExecutor(2) as pool:
        for found, expected in zip(pool.map(lambda each: index.search([each], 7), asked * 3), alone * 3, strict=True):
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs)


@settings(max_examples=25)
@given(
    st.lists(
        st.builds(
            Query,
            st.sampled_from(["red shoes", "Blue  MUG", "mug", "lamp chair", "zebra", "", "手机"]),
            st.sampled_from([None, Shopper("u0"), Shopper("u3")]),
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 130),
)
def test_a_bundles_search_ranks_by_what_its_score_gives(hybrid_bundle: Path, queries: list[Query], k: int) -> None:
    """Of a whole bundle, read from disk, with words and memory: every score, and that no better item is left out."""
    bundle = loaded(hybrid_bundle)
    found = bundle.search(queries, k)
    items = len(bundle.item_ids)
    wide = min(k, items)
    assert (found.items[:, wide:] == -1).all()
    for b, query in enumerate(queries):
        every = bundle.score([query] * items, np.arange(items))
        np.testing.assert_allclose(found.scores[b, :wide], every[found.items[b, :wide]], atol=2e-6)
        np.testing.assert_allclose(found.scores[b, :wide], np.sort(every)[::-1][:wide], atol=2e-6)


def test_a_bundle_adds_words_and_memory_to_the_product(hybrid_bundle: Path) -> None:
    """By hand for one known query: weight 0.3 of all of its words, 0.5 of its share of the clicks."""
    bundle = loaded(hybrid_bundle)
    (asked,) = bundle.ask([Query("Red  SHOES")])
    row = int(asked.items[asked.shares.argmax()])
    product = float((asked.vectors @ bundle.item_vectors[row]).max())
    assert bundle.items["title"][row].endswith("red shoes")
    assert 0.3 < asked.shares.max() < 1
    assert bundle.score([Query("red shoes")], np.array([row]))[0] == pytest.approx(
        product + 0.3 + 0.5 * asked.shares.max(), abs=1e-5
    )
    assert len(bundle.ask([Query("never asked")])[0].items) == 0


_LOADED: dict[Path, Bundle] = {}


def loaded(folder: Path) -> Bundle:
    return _LOADED.setdefault(folder, Bundle.load(folder))
