"""Other rankings of a loaded bundle: each is what the parts say, nothing is copied."""

import numpy as np
import pytest

from twinspire.bundle import Bundle
from twinspire.errors import BundleError
from twinspire.features.query import Query, Shopper
from twinspire.index.variation import Variation

QUERIES = [Query(text, Shopper("u1")) for text in ("red shoes", "mug", "acme blue lamp", "zzzz")]
K = 15


@pytest.fixture(scope="module")
def bundle(hybrid_bundle):
    return Bundle.load(hybrid_bundle)


def scores(bundle, query):
    """Of every item, exactly."""
    (asked,) = bundle.ask([query])
    return bundle.index.scores(asked, np.arange(len(bundle.items)))[0]


def test_nothing_changed_ranks_the_same(bundle):
    for variation in (Variation(), Variation(retrieval="hybrid", lexical=0.3, memory=0.5)):
        np.testing.assert_array_equal(
            bundle.varied(variation).search(QUERIES, K).items, bundle.search(QUERIES, K).items
        )


def test_vectors_are_the_towers_alone(bundle):
    varied = bundle.varied(Variation(retrieval="vectors"))
    found = varied.search(QUERIES, K)
    for row, vector in enumerate(bundle.embed(QUERIES)):
        products = (bundle.item_vectors @ vector.T).max(1)
        np.testing.assert_allclose(found.scores[row], np.sort(products)[::-1][:K], rtol=1e-5)


@pytest.mark.parametrize("filters", [None, {"brand": "acme"}])
def test_words_alone_find_what_shares_a_word_and_rank_by_it_then_by_clicks(bundle, filters):
    varied = bundle.varied(Variation(retrieval="lexical"))
    lexical = bundle.index.lexical
    for query in QUERIES:
        query = Query(query.text, None, filters)
        found = varied.search([query], K)
        rows = found.items[0][found.items[0] >= 0]
        tokens = lexical.query(query.text)
        allowed = np.ones(len(bundle.items), bool) if filters is None else (bundle.items["brand"] == "acme").to_numpy()
        everything = np.flatnonzero(allowed)
        words = [tokens[0]] if lexical.words == 0 else [tokens[lexical.words]]
        coverage = lexical.coverage(tokens, everything)
        weight = bundle.manifest.fusion.lexical
        ranked = weight * (coverage + 1e-3 * lexical.popularity[everything])
        np.testing.assert_allclose(found.scores[0][: len(rows)], np.sort(ranked)[::-1][: len(rows)], atol=1e-5)
        assert len(rows) == (0 if not len(words[0].rows) else min(K, len(rows)))
        np.testing.assert_allclose(scores(varied, query)[rows], found.scores[0][: len(rows)], atol=1e-5)
    assert (varied.search([QUERIES[-1]], K).items == -1).all()


def test_without_personalisation_everyone_is_nobody(bundle):
    varied = bundle.varied(Variation(personalised=False))
    strangers = [Query(query.text) for query in QUERIES]
    np.testing.assert_array_equal(varied.search(QUERIES, K).items, bundle.search(strangers, K).items)
    assert not np.array_equal(bundle.embed(QUERIES), bundle.embed(strangers))


def test_the_first_heads_alone(rich):
    one = rich.bundle.varied(Variation(heads=1))
    found = one.search([Query("running shoes")], 5)
    assert (found.heads == 0).all()
    vector = rich.bundle.embed([Query("running shoes")])[0, 0]
    expected = np.sort(rich.bundle.item_vectors @ vector)[::-1][:5]
    np.testing.assert_allclose(found.scores[0], expected[: found.scores.shape[1]], rtol=1e-5)
    with pytest.raises(BundleError, match=r"parameters\.heads: the bundle has 2"):
        rich.bundle.varied(Variation(heads=3))


def test_parts_that_a_bundle_does_not_have_are_refused(bundle, tiny_bundle):
    tiny = Bundle.load(tiny_bundle)
    for name, of in (("trend", bundle), ("lexical", tiny), ("memory", tiny)):
        with pytest.raises(BundleError, match=rf"parameters\.{name}: the bundle was written without it"):
            of.varied(Variation(**{name: 0.5}))
    with pytest.raises(BundleError, match=r"parameters\.lexical: the bundle was written without"):
        tiny.varied(Variation(retrieval="lexical"))
    with pytest.raises(BundleError, match="words alone need a weight above 0"):
        bundle.varied(Variation(retrieval="lexical", lexical=0))


def test_the_bundle_itself_is_not_changed_and_memory_is_shared(bundle):
    before = bundle.search(QUERIES, K)
    varied = bundle.varied(Variation(retrieval="lexical", memory=0.2))
    varied.search(QUERIES, K)
    np.testing.assert_array_equal(bundle.search(QUERIES, K).items, before.items)
    assert varied.index.item_vectors is bundle.index.item_vectors
    assert varied.model is bundle.model
