import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from twinspire.evaluation.metrics import auc, auc_by_query, click_metrics, ndcg_by_query

# Few distinct scores, so that ties are common.
pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=40)


def test_click_metrics_by_hand() -> None:
    figures = click_metrics(np.array([1, 10, 11, 101]), n_items=200, n_random=1024)
    assert figures["hit@1"].tolist() == [1, 0, 0, 0]
    assert figures["recall@10"].tolist() == [1, 1, 0, 0]
    assert figures["recall@100"].tolist() == [1, 1, 1, 0]
    assert figures["mrr"].tolist() == pytest.approx([1, 1 / 10, 1 / 11, 1 / 101])
    assert figures["top10_of_1024"].tolist() == [1, 1, 0, 0]


def test_top_k_is_easier_among_fewer_items() -> None:
    figures = click_metrics(np.array([50]), n_items=100_000, n_random=1024)
    assert figures["recall@10"][0] == 0
    assert figures["top10_of_1024"][0] > 0.99
    assert figures["top1_of_1024"][0] == pytest.approx(np.exp(-49 * 1024 / 100_000), rel=0.01)


@given(pairs)
def test_auc_agrees_with_scikit_learn(drawn: list[tuple[int, int]]) -> None:
    scores, labels = np.array([a for a, _ in drawn], np.float32), np.array([b > 1 for _, b in drawn])
    ours = auc(scores, labels)[0]
    if labels.all() or not labels.any():
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(roc_auc_score(labels, scores))


@given(pairs, st.integers(0, 2**32 - 1))
def test_weights_count_a_pair_that_many_times(drawn: list[tuple[int, int]], seed: int) -> None:
    scores, labels = np.array([a for a, _ in drawn], np.float32), np.array([b > 1 for _, b in drawn])
    times = np.random.default_rng(seed).integers(0, 3, (2, len(drawn)))
    repeated = [auc(np.repeat(scores, row), np.repeat(labels, row))[0] for row in times]
    assert auc(scores, labels, times.astype(np.float64)).tolist() == pytest.approx(repeated, nan_ok=True)


@given(pairs)
def test_ndcg_agrees_with_scikit_learn(drawn: list[tuple[int, int]]) -> None:
    scores, grades = np.array([a for a, _ in drawn], np.float32), np.array([b / 3 for _, b in drawn])
    ours = ndcg_by_query(scores, grades, np.zeros(len(drawn), int), 1)[0]
    if not grades.any():
        assert np.isnan(ours)
    else:
        assert ours == pytest.approx(ndcg_score([2 ** (3 * grades) - 1], [scores], k=10))


def test_ndcg_by_hand() -> None:
    value = ndcg_by_query(np.array([3.0, 2.0]), np.array([0.0, 1.0]), np.array([0, 0]), 1)[0]
    assert value == pytest.approx(1 / np.log2(3))


def test_each_query_has_its_own_figures() -> None:
    scores = np.array([1.0, 2.0, 9.0, 8.0, 5.0])
    labels = np.array([False, True, False, True, True])
    queries = np.array([0, 0, 1, 1, 3])
    within = auc_by_query(scores, labels, queries, 4)
    assert within[:2].tolist() == [1.0, 0.0]
    assert np.isnan(within[2:]).all()
    assert ndcg_by_query(scores, labels.astype(float), queries, 4)[[0, 3]].tolist() == [1.0, 1.0]
