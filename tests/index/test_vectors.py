import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.errors import BundleError, ConfigError
from twinspire.index.build import FILLED, IndexSpec, build_index, check_factory
from twinspire.index.config import IndexConfig
from twinspire.index.families import at_size, families, preferred
from twinspire.index.rerank import rerank
from twinspire.index.tune import Measured, recall_at
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
    assert (spec.factory, spec.exact, spec.recall_at_100, spec.curve) == ("Flat", True, 1.0, ())


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
    """6,000 items of 32 dimensions around 100 centres, and queries near some of them."""
    rng = np.random.default_rng(0)
    centres = unit(rng, 100, 32)
    vectors = centres[rng.integers(0, 100, 6_000)] + 0.7 * unit(rng, 6_000, 32)
    queries = centres[rng.integers(0, 100, 100)] + 0.7 * unit(rng, 100, 32)
    return tuple(part / np.linalg.norm(part, axis=-1, keepdims=True) for part in (vectors, queries[:, None]))


@pytest.mark.parametrize("target", [0.8, 0.97])
def test_auto_reaches_the_recall_target_and_measures_it(
    clustered: tuple[np.ndarray, np.ndarray], target: float
) -> None:
    vectors, queries = clustered
    index, spec = built(vectors, queries, exact_up_to=1000, recall_target=target)
    assert not spec.exact
    few, many = (one for one in spec.curve if one.chosen)
    assert {few.factory, many.factory} == {spec.factory}
    assert f"{few.parameters};{many.parameters}" == spec.parameters
    assert len({one.factory for one in spec.curve}) == 4
    truth = np.argsort(-(queries[:, 0] @ vectors.T), axis=1)[:, :100]
    found = index.search(queries, 100)[1]
    recall = np.mean([len(set(have) & set(want)) / 100 for have, want in zip(found, truth, strict=True)])
    assert recall >= target - 0.01
    assert spec.recall_at_100 == pytest.approx(recall, abs=0.01)


def test_an_index_is_as_it_was_after_saving(clustered: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    vectors, queries = clustered
    for name, config in (("flat", {}), ("ivf", {"factory": "IVF32,PQ16x4fsr"})):
        index, spec = built(vectors, queries, **config)
        index.save(tmp_path / name)
        loaded = VectorIndex.load(tmp_path / name, spec.parameters, vectors=vectors)
        assert loaded.size == 6_000
        for left, right in zip(index.search(queries, 10), loaded.search(queries, 10), strict=True):
            np.testing.assert_array_equal(left, right)


def test_a_graph_is_a_candidate_only_where_it_can_be_built_in_time() -> None:
    assert "HNSW32,PQ32x4" in families(64, 1_000_000, "cpu")
    assert not any("HNSW" in family for family in families(64, 15_000_000, "cpu"))
    assert at_size("IVF{lists},SQ8", 15_000_000) == "IVF16384_HNSW32,SQ8"
    assert at_size("IVF{lists},PQ32", 15_000_000, "cuda") == "IVF16384,PQ32"
    for family in (*families(64, 1000, "cpu"), *families(7, 1000, "cpu")):
        check_factory(64 if family in families(64, 1000, "cpu") else 7, IndexConfig(factory=at_size(family, 1000)))


@pytest.mark.parametrize(
    ("ends", "taken"),
    [
        ({"long": (1.2, True), "short": (1.0, True)}, "long"),  # about the same
        ({"long": (1.3, True), "short": (1.0, True)}, "short"),
        ({"long": (0.5, False), "short": (9.0, True)}, "short"),
        ({"long": (1.0, False, 0.8), "short": (1.0, False, 0.9)}, "short"),
    ],
)
def test_a_family_is_left_for_one_that_is_clearly_cheaper(ends: dict, taken: str) -> None:
    def end(ms, reaches, recall=0.95):
        return Measured(factory="", parameters="", items=1, recall=recall, ms=ms, reaches=reaches)

    assert preferred({family: end(*given) for family, given in ends.items()}) == taken


def test_an_index_of_an_older_bundle_holds_the_vectors_itself(
    clustered: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    vectors, queries = clustered
    old = faiss.index_factory(32, "IVF16,PQ16x4fsr,RFlat", faiss.METRIC_INNER_PRODUCT)
    old.train(vectors)
    old.add(vectors)
    faiss.write_index(old, str(tmp_path / "index"))
    parameters = "nprobe=16,k_factor_rf=8"
    for beside in (None, vectors):
        found = VectorIndex.load(tmp_path / "index", parameters, vectors=beside).search(queries, 50)
        exact = np.take_along_axis(queries[:, 0] @ vectors.T, found[1], 1)
        np.testing.assert_allclose(found[0], exact, atol=1e-6)
    space = faiss.ParameterSpace()
    space.set_index_parameters(old, parameters)
    np.testing.assert_allclose(found[0], old.search(queries[:, 0], 50)[0], atol=1e-6)


@pytest.mark.parametrize(
    "factory", ["IVF16,PQ16x4fsr", "IVF16,SQ8", "IVF16_HNSW8,SQ8", "HNSW16,SQ8", "Flat", "PCA16,IVF16,SQ8"]
)
@pytest.mark.parametrize("heads", [1, 2])
def test_only_what_is_within_is_found(clustered: tuple[np.ndarray, np.ndarray], factory: str, heads: int) -> None:
    vectors, queries = clustered[0][:2001], clustered[1].reshape(-1, heads, 32)[:20]
    index = faiss.index_factory(32, factory, faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    searched = VectorIndex(index, "nprobe=16,efSearch=400,refine=2", vectors)
    allowed = np.random.default_rng(0).random(len(vectors)) < 0.3
    bitmap = np.packbits(allowed, bitorder="little")
    rows = searched.search(queries, 30, within=bitmap)[1]
    assert allowed[rows].all()
    scores = np.where(allowed, (queries @ vectors.T).max(1), -np.inf)
    assert recall_at(rows, np.argsort(-scores, axis=1)[:, :30]) > 0.6
    proposed = searched.candidates(queries, 30, within=bitmap)
    assert proposed.shape[1] >= 30 * heads
    assert allowed[proposed[proposed >= 0]].all()
    few = searched.search(queries, 30, within=np.packbits(np.arange(len(vectors)) < 3, bitorder="little"))[1]
    assert set(few.ravel().tolist()) <= {-1, 0, 1, 2}


def test_an_index_that_cannot_filter_says_so() -> None:
    vectors = unit(np.random.default_rng(0), 500, 8)
    index = faiss.index_factory(8, "PQ8x4fs", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    with pytest.raises(NotImplementedError, match="within a part"):
        VectorIndex(index, "refine=2", vectors).search(vectors[:1, None], 5, within=np.zeros(63, np.uint8))


def test_more_effort_finds_more_and_leaves_the_index_as_it_is(clustered: tuple[np.ndarray, np.ndarray]) -> None:
    vectors, queries = clustered
    index = built(vectors, queries, factory="IVF128,PQ32x4fsr")[0]
    index = VectorIndex(index.index, "nprobe=4,refine=3", vectors)
    truth = np.argsort(-(queries[:, 0] @ vectors.T), axis=1)[:, :100]
    usual = index.search(queries, 100)[1]
    recall = [recall_at(index.search(queries, 100, effort=effort)[1], truth) for effort in (0.01, 1, 8, 1e9)]
    assert recall == sorted(recall)
    assert recall[0] < recall[1] < recall[2]
    assert index.index.nprobe == 1
    np.testing.assert_array_equal(index.search(queries, 100)[1], usual)


@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.integers(0, 12), st.integers(1, 9))
def test_reranking_sorts_the_candidates_by_exact_scores(
    data: st.DataObject, batch: int, heads: int, width: int, k: int
) -> None:
    """Small whole numbers: scores tie often. With several heads a candidate may come twice."""
    whole = st.integers(-2, 2)

    def draw(*shape: int) -> np.ndarray:
        size = int(np.prod(shape))
        return np.array(data.draw(st.lists(whole, min_size=size, max_size=size)), np.float32).reshape(shape)

    vectors, queries = draw(7, 2), draw(batch, heads, 2)
    lists = st.lists(st.integers(0, 6), unique=heads == 1, max_size=width)
    rows = np.full((batch, width), -1, np.int64)
    for b in range(batch):
        proposed = data.draw(lists)
        rows[b, : len(proposed)] = proposed
    scores, found, head = rerank(queries, vectors, rows, k)
    assert (scores.dtype, found.dtype, head.dtype) == (np.float32, np.int64, np.int8)
    for b in range(batch):
        products = queries[b] @ vectors.T
        candidates = sorted({int(row) for row in rows[b] if row >= 0})
        expected = sorted((float(products[:, row].max()) for row in candidates), reverse=True)[:k]
        kept = found[b] >= 0
        assert scores[b][kept].tolist() == expected
        assert np.isneginf(scores[b][~kept]).all()
        assert set(found[b][kept].tolist()) <= set(candidates)
        assert len(set(found[b][kept].tolist())) == len(expected)
        np.testing.assert_array_equal(products[head[b][kept], found[b][kept]], scores[b][kept])


def test_a_killed_build_goes_on_and_measures_the_same(
    clustered: tuple[np.ndarray, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, queries = clustered
    config = IndexConfig(exact_up_to=0, recall_target=0.8)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("twinspire.index.build.exact", killed)
        with pytest.raises(KeyboardInterrupt):
            build_index(vectors, queries, config, tmp_path / "work")
    filled = Path(shutil.copy(tmp_path / "work" / FILLED, tmp_path / "filled"))
    with monkeypatch.context() as patch:
        patch.setattr("twinspire.index.build.choose_family", killed)
        patch.setattr("twinspire.index.build.trained", killed)
        index, spec = build_index(vectors, queries, config, tmp_path / "work")
    index.save(tmp_path / "index")
    VectorIndex.load(filled).save(tmp_path / "before")
    assert (tmp_path / "index").read_bytes() == (tmp_path / "before").read_bytes()
    assert index.size == len(vectors)
    assert len({one.factory for one in spec.curve}) == 4


def test_many_lists_are_filled_and_found_through_a_graph(
    clustered: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, queries = clustered
    monkeypatch.setattr("twinspire.index.families.MANY_CENTRES", 64)
    factory = at_size("IVF{lists},PQ32x4fsr", 256)
    assert factory == "IVF64_HNSW32,PQ32x4fsr"
    index, spec = built(vectors, queries, factory=factory, recall_target=0.9)
    assert isinstance(faiss.downcast_index(index.index.quantizer), faiss.IndexHNSW)
    assert index.size == len(vectors)
    assert spec.recall_at_100 >= 0.9


def test_without_queries_items_are_asked_for(clustered: tuple[np.ndarray, np.ndarray]) -> None:
    spec = built(clustered[0], np.zeros((0, 2, 32), np.float32), factory="IVF32,SQ8")[1]
    assert spec.recall_at_100 >= 0.95
    assert spec.parameters != "nprobe=1,refine=1"


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
    with pytest.raises(ConfigError, match=r"index\.factory: 'auto' does not fit 9 items of 16"):
        built(unit(rng, 9, 16), unit(rng, 5, 1, 16), exact_up_to=0)


def test_what_is_no_index_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "index.faiss").write_bytes(b"not an index")
    with pytest.raises(BundleError, match=r"index\.faiss") as caught:
        VectorIndex.load(tmp_path / "index.faiss")
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError):
        VectorIndex.load(tmp_path / "none.faiss")


def test_recall_by_hand() -> None:
    truth = np.array([[1, 2, 3, -1], [4, 5, 6, 7], [-1, -1, -1, -1]])
    found = np.array([[3, 1, 9, -1], [4, 5, 6, 7], [1, 2, 3, 4]])
    assert recall_at(found, truth) == pytest.approx((2 / 3 + 1) / 2)


def test_above_a_few_thousand_items_codes_of_all_stand_in_for_exact_search() -> None:
    rng = np.random.default_rng(0)
    vectors, queries = unit(rng, 6000, 32), unit(rng, 100, 1, 32)
    index, spec = built(vectors, queries)
    assert (spec.factory, spec.exact) == ("IVF1,PQ16x4fsr", False)
    assert spec.recall_at_100 >= 0.999
    others = unit(rng, 100, 1, 32)
    best = np.argsort(-(others[:, 0] @ vectors.T), axis=1)[:, :100]
    assert recall_at(index.search(others, 100)[1], best) >= 0.998
    scores, rows, _ = index.search(others, 10)
    np.testing.assert_allclose(scores, np.take_along_axis(others[:, 0] @ vectors.T, rows, 1), atol=1e-5)


def test_where_codes_miss_too_much_the_search_is_exact() -> None:
    """All items lie closer to each other than codes can tell."""
    rng = np.random.default_rng(0)
    vectors = (unit(rng, 1, 8) + 1e-6 * rng.normal(size=(6000, 8))).astype(np.float32)
    index, spec = built(vectors, unit(rng, 50, 1, 8))
    assert (spec.factory, spec.exact, spec.recall_at_100) == ("Flat", True, 1.0)
    assert index.size == 6000


def test_an_odd_dimension_has_codes_too() -> None:
    rng = np.random.default_rng(0)
    _, spec = built(unit(rng, 5500, 7), unit(rng, 20, 1, 7))
    assert spec.factory in ("IVF1,PQ7x4fsr", "Flat")
