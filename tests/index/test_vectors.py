from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.errors import BundleError, ConfigError, EnvironmentProblem
from twinspire.index.build import IndexSpec, build_index, check_factory, choose_factory
from twinspire.index.config import IndexConfig
from twinspire.index.tune import recall_at
from twinspire.index.vectors import VectorIndex, merge_heads


def unit(rng: np.random.Generator, *shape: int) -> np.ndarray:
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def built(vectors: np.ndarray, queries: np.ndarray, **config: object) -> tuple[VectorIndex, IndexSpec]:
    return build_index(vectors, queries, IndexConfig(**config))


@given(st.data(), st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(1, 12))
def test_merged_heads_are_the_best_of_all_heads(
    data: st.DataObject, batch: int, heads: int, width: int, k: int
) -> None:
    """Against plain Python: an item once, with its best head's score; scores may tie, rows may be missing."""
    values = st.sampled_from([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0])
    rows, scores = np.full((batch, heads, width), -1, np.int64), np.full((batch, heads, width), -np.inf, np.float32)
    for b in range(batch):
        for h in range(heads):
            found = data.draw(st.lists(st.integers(0, 8), unique=True, max_size=width))
            rows[b, h, : len(found)] = found
            scores[b, h, : len(found)] = sorted((data.draw(values) for _ in found), reverse=True)
    merged, items, head = merge_heads(scores, rows, k)
    for b in range(batch):
        best: dict[int, float] = {}
        for item, score in zip(rows[b].ravel().tolist(), scores[b].ravel().tolist(), strict=True):
            if item >= 0:
                best[item] = max(best.get(item, -np.inf), score)
        expected = sorted(best.values(), reverse=True)[:k]
        kept = items[b] >= 0
        assert merged[b][kept].tolist() == expected
        assert len(set(items[b][kept].tolist())) == len(expected)
        assert np.isneginf(merged[b][~kept]).all()
        for item, score, h in zip(items[b][kept], merged[b][kept], head[b][kept], strict=True):
            assert best[int(item)] == score
            assert score in scores[b, h][rows[b, h] == item]


@pytest.mark.parametrize("heads", [1, 3])
def test_flat_search_is_brute_force(heads: int) -> None:
    rng = np.random.default_rng(0)
    vectors, queries = unit(rng, 500, 16), unit(rng, 7, heads, 16)
    index, spec = built(vectors, queries)
    scores, rows, head = index.search(queries, 20)
    exact = (queries @ vectors.T).max(axis=1)
    order = np.argsort(-exact, axis=1)[:, :20]
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_allclose(scores, np.take_along_axis(exact, order, 1), atol=1e-6)
    np.testing.assert_array_equal(head, np.take_along_axis((queries @ vectors.T).argmax(1), order, 1))
    assert (scores.dtype, head.dtype) == (np.float32, np.int8)
    assert (spec.factory, spec.exact, spec.recall_at_100) == ("Flat", True, 1.0)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("k", [1, 5, 8])
def test_more_than_there_is_pads(heads: int, k: int) -> None:
    rng = np.random.default_rng(0)
    vectors, queries = unit(rng, 5, 8), unit(rng, 3, heads, 8)
    scores, rows, head = built(vectors, queries)[0].search(queries, k)
    assert scores.shape == rows.shape == head.shape == (3, k)
    assert (np.sort(rows[:, :5], axis=1) >= 0).all()
    assert (rows[:, 5:] == -1).all()
    assert np.isneginf(scores[:, 5:]).all()
    assert np.isfinite(scores[:, :5]).all()


def test_no_queries() -> None:
    vectors = unit(np.random.default_rng(0), 5, 8)
    index, spec = built(vectors, np.zeros((0, 2, 8), np.float32))
    assert index.search(np.zeros((0, 2, 8), np.float32), 3)[1].shape == (0, 3)
    assert spec.recall_at_100 == 1.0


@pytest.fixture(scope="module")
def clustered() -> tuple[np.ndarray, np.ndarray]:
    """20,000 items of 32 dimensions around 200 centres, and queries near some of them."""
    rng = np.random.default_rng(0)
    centres = unit(rng, 200, 32)
    vectors = centres[rng.integers(0, 200, 20_000)] + 0.7 * unit(rng, 20_000, 32)
    queries = centres[rng.integers(0, 200, 100)] + 0.7 * unit(rng, 100, 32)
    return tuple(part / np.linalg.norm(part, axis=-1, keepdims=True) for part in (vectors, queries[:, None]))


@pytest.mark.parametrize("target", [0.8, 0.97])
def test_auto_reaches_the_recall_target_and_measures_it(
    clustered: tuple[np.ndarray, np.ndarray], target: float
) -> None:
    vectors, queries = clustered
    index, spec = built(vectors, queries, exact_up_to=1000, recall_target=target)
    assert spec.factory.startswith("IVF")
    assert not spec.exact
    truth = np.argsort(-(queries[:, 0] @ vectors.T), axis=1)[:, :100]
    found = index.search(queries, 100)[1]
    recall = np.mean([len(set(have) & set(want)) / 100 for have, want in zip(found, truth, strict=True)])
    assert recall >= target - 0.01
    assert spec.recall_at_100 == pytest.approx(recall, abs=0.01)


def test_an_index_is_as_it_was_after_saving(clustered: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    vectors, queries = clustered
    for name, config in (("flat", {}), ("ivf", {"factory": "IVF32,PQ16x4fsr,RFlat"})):
        index, spec = built(vectors, queries, **config)
        index.save(tmp_path / name)
        loaded = VectorIndex.load(tmp_path / name, spec.parameters)
        assert loaded.size == 20_000
        for left, right in zip(index.search(queries, 10), loaded.search(queries, 10), strict=True):
            np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize(
    ("items", "expected"), [(10, "Flat"), (100_000, "Flat"), (1_000_000, "IVF4096,PQ64x4fsr,RFlat")]
)
def test_auto_is_exact_for_small_catalogues(items: int, expected: str) -> None:
    assert choose_factory(items, 64, IndexConfig()) == expected
    assert choose_factory(items, 64, IndexConfig(factory="HNSW32")) == "HNSW32"


@pytest.mark.parametrize("factory", ["nonsense", "", "PQ7", "IVF-1,Flat"])
def test_a_bad_factory_is_one_clear_line_before_and_while_building(factory: str) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match=r"index\.factory") as early:
        check_factory(16, IndexConfig(factory=factory))
    with pytest.raises(ConfigError, match=r"index\.factory.*300 items") as late:
        built(unit(rng, 300, 16), unit(rng, 5, 1, 16), factory=factory)
    for caught in (early, late):
        assert "\n" not in str(caught.value)
        assert ".cpp" not in str(caught.value)


def test_a_catalogue_too_small_for_its_lists_is_one_clear_line() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="training points") as caught:
        built(unit(rng, 300, 16), unit(rng, 5, 1, 16), factory="IVF4096,Flat")
    assert "\n" not in str(caught.value)


def test_what_is_no_index_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "index.faiss").write_bytes(b"not an index")
    with pytest.raises(BundleError, match=r"index\.faiss") as caught:
        VectorIndex.load(tmp_path / "index.faiss")
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError):
        VectorIndex.load(tmp_path / "none.faiss")


def test_a_gpu_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faiss.get_num_gpus", lambda: 0)
    index = built(unit(np.random.default_rng(0), 5, 8), np.zeros((0, 1, 8), np.float32))[0]
    with pytest.raises(EnvironmentProblem, match="cpu"):
        index.to_gpu()


def test_recall_by_hand() -> None:
    truth = np.array([[1, 2, 3, -1], [4, 5, 6, 7], [-1, -1, -1, -1]])
    found = np.array([[3, 1, 9, -1], [4, 5, 6, 7], [1, 2, 3, 4]])
    assert recall_at(found, truth) == pytest.approx((2 / 3 + 1) / 2)
