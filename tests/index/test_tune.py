import faiss
import numpy as np
import pytest

from twinspire.index import tune as tuning
from twinspire.index.tune import PROBES, recall_at, recalls, tune
from twinspire.index.vectors import VectorIndex

FACTORY = "IVF64,PQ16x4fsr,RFlat"


@pytest.fixture(scope="module")
def market():
    """An index over 10,000 items of 32 dimensions, 200 queries (Q, 1, D), and their 100 best items (Q, 100)."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(10_000, 32)).astype(np.float32)
    queries = rng.normal(size=(200, 1, 32)).astype(np.float32)
    index = faiss.index_factory(32, FACTORY, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return index, queries, np.argsort(-(queries[:, 0] @ vectors.T), axis=1)[:, :100]


def searched(index, parameters, queries):
    return VectorIndex(index, parameters).search(queries, 100)[1]


@pytest.mark.parametrize("target", [0.7, 0.9])
def test_the_target_is_reached_by_a_standard_error_and_with_no_more_lists_than_that_takes(market, target):
    index, queries, truth = market
    found, recall = tune(index, FACTORY, queries, truth, target)
    shares = recalls(searched(index, found.parameters, queries), truth)
    assert recall == pytest.approx(shares.mean())
    assert shares.mean() - shares.std() / np.sqrt(len(shares)) >= target
    probes = int(found.parameters.split("nprobe=")[1].split(",")[0])
    fewer = found.parameters.replace(f"nprobe={probes}", f"nprobe={PROBES[PROBES.index(probes) - 1]}")
    shares = recalls(searched(index, fewer, queries), truth)
    assert shares.mean() - shares.std() / np.sqrt(len(shares)) < target


def test_of_those_that_reach_the_target_the_cheapest_is_taken(market, monkeypatch):
    index, queries, truth = market
    monkeypatch.setattr(tuning, "_cost", lambda index, parameters, queries: 0 if "rf=8" in parameters else 1)
    assert "k_factor_rf=8" in tune(index, FACTORY, queries, truth, 0.5)[0].parameters


def test_where_nothing_reaches_the_target_the_most_thorough_is_taken():
    vectors = np.random.default_rng(0).normal(size=(1000, 8)).astype(np.float32)
    index = faiss.index_factory(8, "IVF4,PQ4x4fsr", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    queries = vectors[:20, None]
    truth = np.argsort(-(queries[:, 0] @ vectors.T), axis=1)[:, :100]
    found, recall = tune(index, "IVF4,PQ4x4fsr", queries, truth, 1.0)
    assert found.parameters == f"nprobe={PROBES[-1]}"
    assert recall == recall_at(searched(index, found.parameters, queries), truth) < 1
