import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import faiss
import numpy as np
import pytest
import torch
from edited import edit_manifest
from hypothesis import given
from hypothesis import strategies as st
from rich_shop import Rich

from twinspire.bundle import Bundle, Manifest, check_target, read_items
from twinspire.bundle import write as writing
from twinspire.bundle.manifest import LEXICAL, MANIFEST, checksums
from twinspire.errors import BundleError
from twinspire.features.query import Event, Query, Shopper

TEXTS = st.text(max_size=20) | st.sampled_from(["red shoes", "café mug", "手机壳", "", "☃", " "])
SHOPPERS = st.none() | st.builds(Shopper, st.sampled_from(["u0", "u3", "u17", "nobody", None]))
QUERIES = st.lists(st.builds(Query, TEXTS, SHOPPERS), min_size=1, max_size=5)


@pytest.fixture
def copy(rich: Rich, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rich.folder, tmp_path / "copy"))


def refused(folder: Path, **options: object) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_manifest_says_what_the_bundle_is(rich: Rich) -> None:
    manifest = rich.bundle.manifest
    assert (manifest.schema_version, manifest.name, manifest.dimensions) == (6, "rich", 16)
    assert manifest.items == len(rich.bundle.item_ids) == 64
    assert manifest.architecture.config.heads == 2
    assert manifest.dataset_fingerprint == rich.encoded.meta.fingerprint
    assert manifest.trained_until == rich.encoded.meta.trained_until
    assert manifest.files == checksums(rich.folder)
    assert manifest.config["features"]["query"] != "auto", "resolved"
    assert not [path for path in rich.folder.rglob("*") if path.suffix in (".pkl", ".pt", ".pickle")]


@given(QUERIES, st.integers(1, 80))
def test_search_ranks_by_what_score_gives(rich: Rich, queries: list[Query], k: int) -> None:
    """Exactly: for every result the score is `score`'s, and no better item is left out."""
    bundle = rich.bundle
    found = bundle.search(queries, k)
    assert found.items.shape == found.scores.shape == found.heads.shape == (len(queries), k)
    assert (found.items.dtype, found.scores.dtype, found.heads.dtype) == (np.int32, np.float32, np.int8)
    items = len(bundle.item_ids)
    wide = min(k, items)
    assert (found.items[:, wide:] == -1).all()
    assert (np.diff(found.scores[:, :wide], axis=1) <= 0).all()
    for b, query in enumerate(queries):
        exact = bundle.score([query] * items, np.arange(items))
        assert exact.dtype == np.float32
        rows = found.items[b, :wide]
        assert len(set(rows.tolist())) == wide
        np.testing.assert_allclose(found.scores[b, :wide], exact[rows], atol=2e-6)
        np.testing.assert_allclose(found.scores[b, :wide], np.sort(exact)[::-1][:wide], atol=2e-6)
        head = bundle.embed([query])[0] @ bundle.item_vectors[rows].T
        np.testing.assert_allclose(np.take_along_axis(head, found.heads[b, None, :wide], 0)[0], exact[rows], atol=2e-6)


@given(QUERIES)
def test_an_answer_does_not_depend_on_its_batch(rich: Rich, queries: list[Query]) -> None:
    together = rich.bundle.search(queries, 64)
    for b, query in enumerate(queries):
        alone = rich.bundle.search([query], 64)
        np.testing.assert_allclose(alone.scores[0], together.scores[b], atol=2e-6)


def test_a_loaded_copy_gives_the_same_results(rich: Rich, copy: Path) -> None:
    queries = [Query("red"), Query("手机壳", Shopper("u1")), Query("mug", Shopper(history=[Event("Lampe-17")]))]
    left, right = rich.bundle.search(queries, 30), Bundle.load(copy).search(queries, 30)
    np.testing.assert_array_equal(left.items, right.items)
    np.testing.assert_array_equal(left.scores, right.scores)
    np.testing.assert_array_equal(left.heads, right.heads)


def test_item_vectors_are_those_of_the_item_tower(rich: Rich) -> None:
    from twinspire.model import to_bags

    store = rich.encoded.store
    with torch.inference_mode():
        vectors = rich.bundle.model.items(to_bags(store.item_features(np.arange(store.n_items)))).numpy()
    np.testing.assert_allclose(rich.bundle.item_vectors, vectors, atol=1e-6)


def test_no_queries_no_answers(rich: Rich) -> None:
    assert rich.bundle.search([], 5).items.shape == (0, 5)
    assert rich.bundle.score([], np.zeros(0, np.int64)).shape == (0,)


def test_threads_get_the_answers_of_one_thread(rich: Rich) -> None:
    queries = [Query(text, Shopper(f"u{n}")) for n, text in enumerate(["red", "mug", "手机壳", "Lampe", "rouge"] * 8)]
    expected = [rich.bundle.search([query], 10).scores for query in queries]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(
            pool.map(lambda query: rich.bundle.search([query], 10).scores, queries), expected, strict=True
        ):
            np.testing.assert_array_equal(found, wanted)


def test_the_shopper_changes_the_answer(tiny_bundle: Path) -> None:
    bundle = Bundle.load(tiny_bundle)
    brands = [
        bundle.items["brand"].gather(bundle.search([Query("red shoes", Shopper(user))], 1).items[0])[0]
        for user in ("u0", "u1")
    ]
    assert brands == ["acme", "borealis"]


def test_items_and_shoppers_are_shown(rich: Rich) -> None:
    bundle = rich.bundle
    assert bundle.items.columns == ["item_id", "title", "brand", "category", "price", "clicks"]
    assert bundle.items["item_id"].to_list() == list(bundle.item_ids)
    assert bundle.item_rows[bundle.item_ids[7]] == 7
    assert bundle.items["clicks"].sum() == rich.encoded.meta.positives
    shoppers = bundle.shoppers(3)
    lengths = [len(shopper.history or ()) for shopper in shoppers]
    assert len(shoppers) == 3
    assert min(lengths) == 10
    known = {shopper.user_id: shopper for shopper in bundle.shoppers(100)}
    assert known["u0"].profile == {
        "gender": "f", "member": True, "visits": 1, "income": 0.0, "size/colour": "M > blue", "user": "new",
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted({"features.json", "model.safetensors", "index.faiss", "item_vectors.npy",
                                         "items.arrow", "users.parquet", "vocabulary.words.hashes.npy"}))  # fmt: skip
@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "empty"])
def test_a_damaged_file_is_refused_by_name(copy: Path, name: str, damage: str) -> None:
    path = copy / name
    content = bytearray(path.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
    path.unlink()
    if damage != "remove":
        path.write_bytes({"flip": content, "cut": content[:-1], "empty": b""}[damage])
    assert name in refused(copy)


def test_a_folder_without_a_manifest_is_no_bundle(copy: Path, tmp_path: Path) -> None:
    (copy / MANIFEST).unlink()
    assert MANIFEST in refused(copy)
    assert MANIFEST in refused(tmp_path / "nowhere")
    assert MANIFEST in refused(copy / "index.faiss")


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"schema_version": 1}'])
def test_a_broken_manifest_is_refused(copy: Path, content: str) -> None:
    (copy / MANIFEST).write_text(content)
    assert MANIFEST in refused(copy)


@pytest.mark.parametrize("version", [1, 99])
def test_another_schema_version_is_refused(copy: Path, version: int) -> None:
    edit_manifest(copy, schema_version=version)
    assert f"schema version {version}, this Twinspire reads 6; fit again" in refused(copy)


@pytest.mark.parametrize("version", [2, 3])
def test_a_manifest_from_before_the_curve_is_read(copy: Path, version: int) -> None:
    index = json.loads((copy / MANIFEST).read_text())["index"]
    edit_manifest(copy, schema_version=version, index={k: v for k, v in index.items() if k not in ("curve", "seconds")})
    bundle = Bundle.load(copy)
    assert bundle.manifest.index.curve == ()
    assert bundle.search([Query("red")], 5).items.shape == (1, 5)


def test_a_bundle_whose_index_holds_the_vectors_too_is_searched_as_it_was(rich: Rich, copy: Path) -> None:
    """As schema 3 wrote it: RFlat behind a compressed index."""
    index = faiss.index_factory(16, "IVF2,PQ16x4fsr,RFlat", faiss.METRIC_INNER_PRODUCT)
    vectors = np.ascontiguousarray(rich.bundle.item_vectors)
    index.train(vectors)
    index.add(vectors)
    faiss.write_index(index, str(copy / "index.faiss"))
    spec = json.loads((copy / MANIFEST).read_text())["index"] | {"parameters": "nprobe=2,k_factor_rf=64"}
    edit_manifest(copy, schema_version=3, index=spec, files=checksums(copy))
    queries = [Query("red"), Query("mug")]
    np.testing.assert_allclose(
        Bundle.load(copy).search(queries, 10).scores, rich.bundle.search(queries, 10).scores, atol=2e-6
    )


def test_a_bundle_whose_postings_are_in_no_order_proposes_the_same(hybrid_bundle: Path, tmp_path: Path) -> None:
    """As schema 4 wrote it: items in place of their places in the order of clicks, which is not written."""
    copy, now = Path(shutil.copytree(hybrid_bundle, tmp_path / "copy")), Bundle.load(hybrid_bundle)
    assert now.index.lexical is not None
    postings = now.index.lexical.postings
    stem = copy / LEXICAL / "postings"
    Path(f"{stem}.order.npy").unlink()
    np.save(f"{stem}.values.npy", postings.order[postings.places])
    edit_manifest(copy, schema_version=4, files=checksums(copy))
    old, queries = Bundle.load(copy), [Query("red"), Query("blue mug")]
    assert old.index.lexical is not None
    np.testing.assert_array_equal(old.index.lexical.postings.places, postings.places)
    np.testing.assert_array_equal(old.search(queries, 10).items, now.search(queries, 10).items)


def test_an_index_with_one_setting_for_every_k_is_searched_with_it(copy: Path) -> None:
    """As schema 5 wrote it."""
    spec = json.loads((copy / MANIFEST).read_text())["index"] | {"parameters": "refine=3"}
    del spec["recall_at_1000"]
    edit_manifest(copy, schema_version=5, index=spec)
    assert [setting.refine for setting in Bundle.load(copy).index.vectors._tuned] == [3, 3]


def test_vectors_in_a_file_are_linked_not_copied(rich: Rich, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "vectors.npy"
    np.save(source, rich.bundle.item_vectors)
    parts = SimpleNamespace(vectors_file=source, vectors=rich.bundle.item_vectors)
    writing._save_vectors(parts, tmp_path / "linked.npy")
    assert (tmp_path / "linked.npy").samefile(source)

    def another_disk(*_: object) -> None:
        raise OSError("cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", another_disk)
    writing._save_vectors(parts, tmp_path / "copied.npy")
    assert not (tmp_path / "copied.npy").samefile(source)
    assert (tmp_path / "copied.npy").read_bytes() == source.read_bytes()


def test_another_tokeniser_is_refused(copy: Path) -> None:
    edit_manifest(copy, tokeniser_fingerprint="f" * 64, tokeniser_version="0")
    assert "tokeniser 0 (ffffffffffff)" in refused(copy)


def test_another_version_of_the_tokeniser_is_refused(copy: Path) -> None:
    edit_manifest(copy, tokeniser_version="0")
    assert "tokeniser 0 (" in refused(copy)


def test_another_number_of_items_is_refused(rich: Rich, copy: Path) -> None:
    edit_manifest(copy, items=3)
    assert f"the catalogue has {len(rich.bundle.items)} items, the manifest 3" in refused(copy)


def test_a_manifest_that_vouches_for_nothing_is_refused(copy: Path) -> None:
    edit_manifest(copy, files={})
    assert "features.json" in refused(copy)


def test_parts_that_do_not_fit_are_refused_even_with_good_checksums(copy: Path) -> None:
    def sign() -> None:
        edit_manifest(copy, files=checksums(copy))

    items = read_items(copy)
    beside = copy.with_name("items.arrow")  # what is mapped must not be written over
    items.head(5).write_ipc(beside)
    beside.replace(copy / "items.arrow")
    sign()
    assert "64 x 16" in refused(copy)
    items.write_ipc(beside)
    beside.replace(copy / "items.arrow")
    sign()
    Bundle.load(copy)
    architecture = json.loads((copy / MANIFEST).read_text())["architecture"]
    edit_manifest(copy, architecture=architecture | {"config": architecture["config"] | {"hidden": 17}})
    assert "model.safetensors" in refused(copy)


def contents(folder: Path) -> dict[str, str]:
    return checksums(folder) | {MANIFEST: (folder / MANIFEST).read_text()}


@pytest.fixture
def rewrite(rich: Rich, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Writes a bundle at the target whose content does not matter here."""

    def write(target: Path, *, fail: bool = False) -> None:
        with writing._beside(target) as folder:
            shutil.copytree(rich.folder, folder, dirs_exist_ok=True)
            if fail:
                raise RuntimeError("disk full")

    return write


def test_writing_replaces_a_bundle_and_leaves_nothing_beside_it(
    rewrite: Callable[..., None], copy: Path, rich: Rich
) -> None:
    (copy / "old").write_text("old")
    rewrite(copy)
    assert contents(copy) == contents(rich.folder)
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
    rewrite(copy.parent / "deep" / "new")
    assert Manifest.read(copy.parent / "deep" / "new") == rich.bundle.manifest


def test_a_failure_leaves_the_old_bundle_and_nothing_beside_it(
    rewrite: Callable[..., None], copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(copy)
    with pytest.raises(RuntimeError, match="disk full"):
        rewrite(copy, fail=True)
    assert contents(copy) == before
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]
    with pytest.raises(RuntimeError, match="disk full"):
        rewrite(copy.parent / "new", fail=True)
    assert not (copy.parent / "new").exists()

    rename = Path.rename

    def no_new(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", no_new)
    with pytest.raises(OSError, match="no space left"):
        rewrite(copy)
    assert contents(copy) == before
    assert [path.name for path in copy.parent.iterdir()] == [copy.name]


def test_what_is_no_bundle_is_not_replaced(rewrite: Callable[..., None], tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "holiday.jpg").write_text("x")
    (tmp_path / "file").write_text("x")
    for target in (folder, tmp_path / "file"):
        for write in (check_target, rewrite):
            with pytest.raises(BundleError, match="no bundle"):
                write(target)
    assert (folder / "holiday.jpg").read_text() == "x"
    (tmp_path / "empty").mkdir()
    rewrite(tmp_path / "empty")
    assert (tmp_path / "empty" / MANIFEST).is_file()
