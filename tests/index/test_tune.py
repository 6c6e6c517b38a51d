import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.index import tune as tuning
from twinspire.index.build import build_index
from twinspire.index.config import IndexConfig
from twinspire.index.parameters import Tuned
from twinspire.index.tune import BREADTHS, exact, measure, recall_at, tune
from twinspire.index.vectors import VectorIndex

FACTORY = "IVF64,PQ16x4fsr"


@pytest.fixture(scope="module")
def market():
    """An index over 10,000 items of 32 dimensions, 100 queries (Q, 1, D), and their 100 best items (Q, 100)."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(10_000, 32)).astype(np.float32)
    queries = rng.normal(size=(100, 1, 32)).astype(np.float32)
    index = faiss.index_factory(32, FACTORY, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return index, vectors, queries, np.argsort(-(queries[:, 0] @ vectors.T), axis=1)[:, :100]


@pytest.fixture(autouse=True)
def no_clock(monkeypatch):
    """A search costs what it looks at, not what the machine is busy with."""

    def cost(searched, factory, queries, truth, target):
        found = measure(searched, factory, queries, truth, target)
        parts = dict(part.split("=") for part in found.parameters.split(","))
        return found.model_copy(update={"ms": float(parts.get("nprobe", 1)) + float(parts["refine"])})

    monkeypatch.setattr(tuning, "measure", cost)
    monkeypatch.setattr(tuning, "COST_REPEATS", 1)


def probes(parameters):
    return int(parameters.split("nprobe=")[1].split(",")[0])


@pytest.mark.parametrize("target", [0.7, 0.9])
def test_the_cheapest_that_reaches_the_target_is_taken_with_no_more_lists_than_that_takes(market, target):
    index, vectors, queries, truth = market
    found, curve = tune(index, FACTORY, vectors, queries, truth, target)
    (chosen,) = [one for one in curve if one.chosen]
    assert chosen.reaches
    assert chosen.parameters == found.parameters
    assert chosen.recall == pytest.approx(recall_at(found.search(queries, 100)[1], truth))
    assert chosen.ms == min(one.ms for one in curve if one.reaches)
    lists = probes(found.parameters)
    fewer = found.parameters.replace(f"nprobe={lists}", f"nprobe={BREADTHS[BREADTHS.index(lists) - 1]}")
    assert not measure(VectorIndex(index, fewer, vectors), FACTORY, queries, truth, target).reaches


def test_the_curve_shows_less_and_more_than_what_is_chosen(market):
    index, vectors, queries, truth = market
    _, curve = tune(index, FACTORY, vectors, queries, truth, 0.8)
    (chosen,) = [one for one in curve if one.chosen]
    assert min(one.recall for one in curve) < chosen.recall - 0.1
    assert max(one.recall for one in curve) > chosen.recall
    assert len({one.parameters for one in curve}) == len(curve)


def test_where_nothing_reaches_the_target_the_highest_recall_is_taken(market):
    index, vectors, queries, truth = market
    impossible = np.where(np.arange(100) < 10, 10_000 + truth, truth)  # rows that no index has
    found, curve = tune(index, FACTORY, vectors, queries, impossible, 0.95)
    assert next(one.recall for one in curve if one.chosen) == max(one.recall for one in curve)
    assert "nprobe=64" in found.parameters
    assert not any(one.reaches for one in curve)


def test_what_is_dear_is_not_looked_into(market):
    index, vectors, queries, truth = market
    _, curve = tune(index, FACTORY, vectors, queries, truth, 0.95, limit=2)
    assert max(probes(one.parameters) for one in curve) < 64


def test_many_results_have_settings_of_their_own(market):
    _, vectors, queries, _ = market
    found, spec = build_index(vectors, queries, IndexConfig(factory=FACTORY, exact_up_to=0, recall_target=0.8))
    chosen = {one.k: one for one in spec.curve if one.chosen}
    assert chosen.keys() == {100, 1000}
    assert found.parameters == spec.parameters == f"{chosen[100].parameters};{chosen[1000].parameters}"
    assert probes(chosen[1000].parameters) > probes(chosen[100].parameters)
    for k, told in ((100, spec.recall_at_100), (1000, spec.recall_at_1000)):
        best = np.argsort(-(queries[:, 0] @ vectors.T), axis=1)[:, :k]
        assert recall_at(found.search(queries, k)[1], best) == pytest.approx(told)
        assert told >= 0.8


@given(st.integers(1, 200), st.integers(1, 200), st.floats(1, 16), st.floats(1, 16), st.integers(1, 2000))
def test_settings_lie_between_those_for_few_and_for_many_results(few, many, refined, less, k):
    tuned = Tuned.read(f"nprobe={few},refine={refined};nprobe={many},refine={less}", faiss.IndexFlatIP(2))
    assert tuned.at(100) == tuned.at(10) == tuned.shallow == (few, refined, False)
    assert tuned.at(1000) == tuned.at(2000) == tuned.deep == (many, less, False)
    at, after = tuned.at(k), tuned.at(k + 1)
    for setting, low, high in ((at.breadth, few, many), (at.refine, refined, less)):
        assert min(low, high) - 1e-9 <= setting <= max(low, high) + 1e-9
    assert (after.breadth >= at.breadth) if many >= few else (after.breadth <= at.breadth)


def test_one_setting_is_for_any_number_of_results():
    tuned = Tuned.read("nprobe=7,refine=2", faiss.IndexFlatIP(2))
    assert {tuned.at(k) for k in (1, 100, 300, 1000)} == {tuned.shallow}


@given(st.integers(1, 40), st.integers(1, 3), st.integers(1, 20), st.integers(1, 9))
def test_exact_search_by_blocks_is_exact_search(items, heads, k, block):
    rng = np.random.default_rng(items)
    vectors = rng.normal(size=(items, 4)).astype(np.float32)
    queries = rng.normal(size=(3, heads, 4)).astype(np.float32)
    heard = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "BLOCK_ROWS", block)
        rows = exact(vectors, queries, k, heard.append)
    wide = min(k, items)
    best = np.argsort(-(queries @ vectors.T).max(1), axis=1)[:, :wide]
    np.testing.assert_array_equal(rows[:, :wide], best)
    assert (rows[:, wide:] == -1).all()
    assert sum(heard) == items
