import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.evaluation.heads import best_by_any_head, measure_heads, top
from twinspire.index.build import build_index
from twinspire.index.config import IndexConfig

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def vectors(rows: list) -> np.ndarray:
    return np.array(rows, np.float32)


def unit(shape: tuple[int, ...], seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=shape)
    return (drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).astype(np.float32)


def test_heads_that_point_apart_find_nothing_in_common() -> None:
    items = vectors([EAST, EAST, NORTH, NORTH])
    measures = measure_heads(vectors([[EAST, NORTH]]), items, k=2)
    assert measures.cosine == pytest.approx(0)
    assert measures.overlap == 0
    both = measure_heads(vectors([[EAST, NORTH]]), items, k=4)
    assert both.share == (0.5, 0.5)
    assert both.alone == 0
    assert both.overlap == 1  # four items are all there are


def test_equal_heads_have_cosine_one_and_the_first_brings_everything() -> None:
    measures = measure_heads(vectors([[EAST, EAST], [NORTH, NORTH]]), vectors([EAST, NORTH, WEST]), k=2)
    assert measures.cosine == pytest.approx(1)
    assert measures.overlap == 1
    assert measures.share == (1, 0)
    assert measures.alone == 1


def test_a_head_that_never_wins_is_seen_though_the_heads_differ() -> None:
    measures = measure_heads(vectors([[EAST, WEST]] * 3), vectors([EAST, [0.8, 0.6], [0.6, 0.8]]), k=2)
    assert measures.cosine == pytest.approx(-1)
    assert measures.share == (1, 0)
    assert measures.alone == 1


def test_two_heads_of_three_agree() -> None:
    """Pairs: one with cosine 1, two with cosine 0; K 1: one pair has its item in common."""
    measures = measure_heads(vectors([[EAST, EAST, NORTH]]), vectors([EAST, NORTH]), k=1)
    assert measures.cosine == pytest.approx(1 / 3)
    assert measures.overlap == pytest.approx(1 / 3)


def test_a_single_head_brings_everything() -> None:
    measures = measure_heads(unit((5, 1, 8), 0), unit((40, 8), 1), k=10)
    assert (measures.cosine, measures.overlap, measures.share, measures.alone) == (pytest.approx(1), 1, (1,), 1)


def test_half_of_the_queries_are_one_heads_alone() -> None:
    items = vectors([EAST, NORTH])
    measures = measure_heads(vectors([[EAST, NORTH], [EAST, [-0.6, -0.8]]]), items, k=2)
    assert measures.alone == 0.5
    assert measures.share == (0.75, 0.25)


def test_fewer_items_than_k_and_no_queries() -> None:
    assert measure_heads(unit((3, 2, 4), 0), unit((2, 4), 1), k=10).k == 2
    with pytest.raises(ValueError, match="no queries"):
        measure_heads(np.zeros((0, 2, 4), np.float32), unit((2, 4), 1))


def test_blocks_do_not_change_the_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, items = unit((9, 3, 6), 0), unit((30, 6), 1)
    whole = measure_heads(queries, items, k=5)
    monkeypatch.setattr("twinspire.evaluation.heads._SCORES_A_BLOCK", 200)
    assert measure_heads(queries, items, k=5) == whole


@given(st.integers(1, 4), st.integers(1, 12), st.integers(0, 2**16))
def test_measures_are_shares(heads: int, k: int, seed: int) -> None:
    measures = measure_heads(unit((4, heads, 5), seed), unit((20, 5), seed + 1), k=k)
    assert sum(measures.share) == pytest.approx(1)
    assert -1.0001 <= measures.cosine <= 1.0001
    assert 0 <= measures.overlap <= 1
    assert 0 <= measures.alone <= 1
    assert set(measures.figures()) >= {"heads/cosine", "heads/alone", f"heads/share_{heads}"}


@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 2**16))
def test_search_by_each_head_and_merging_is_search_by_the_best_head(heads: int, k: int, seed: int) -> None:
    queries, items = unit((3, heads, 6), seed), unit((25, 6), seed + 1)
    index, _ = build_index(items, queries, IndexConfig())
    scores, rows, head = index.search(queries, k)
    products = queries @ items.T
    best, by = best_by_any_head(products, k)
    wide = min(k, len(items))
    np.testing.assert_array_equal(rows[:, :wide], best)
    np.testing.assert_array_equal(head[:, :wide], by)
    np.testing.assert_allclose(scores[:, :wide], np.take_along_axis(products.max(1), best, 1), rtol=1e-4, atol=1e-6)


def test_top_takes_the_lower_row_among_equals() -> None:
    assert top(vectors([0.5, 1.0, 0.5, 1.0]), 3).tolist() == [1, 3, 0]
