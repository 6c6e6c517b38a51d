import tempfile
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.teacher import kept as kept_module
from twinspire.teacher import lessons as module
from twinspire.teacher.encoder import encode_texts, load_encoder
from twinspire.teacher.kept import KeptVectors
from twinspire.teacher.lessons import Lessons, ask_teacher, fingerprint, principal_directions
from twinspire.text import normalise
from twinspire.text.words import words

DIM = 16  # of the encoder
TITLES = pl.Series("title", ["Red  shoe", "blue shoe", "green\nhat", None, "red mug", "Blue Hat", "!"])
QUERIES = pl.Series("query", ["shoe", "red hat", "mug"])


@pytest.fixture(scope="module")
def encoder(plain: Path) -> Any:
    return load_encoder(plain, device="cpu")


def asked(encoder: Any, *arguments: Any, seed: int) -> Lessons:
    with tempfile.TemporaryDirectory() as folder:
        return ask_teacher(encoder, KeptVectors(Path(folder)), *arguments, seed=seed)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def centred(encoder: Any, texts: list[str], *, documents: bool) -> np.ndarray:
    """What the encoder says of each text alone, less the mean of all."""
    vectors = np.concatenate([encode_texts(encoder, [text], documents=documents) for text in texts])
    return vectors - vectors.mean(0)


def test_vectors_are_the_encoders_centred_and_of_length_1(encoder: Any) -> None:
    """All products of texts and titles are those of the encoder's own vectors, where no dimension is cut."""
    lessons = asked(encoder, TITLES, QUERIES, DIM, seed=0)
    texts = unit(centred(encoder, lessons.texts.to_list(), documents=False))
    titles = unit(centred(encoder, TITLES.fill_null("").to_list(), documents=True))
    assert lessons.items.tolist() == list(range(len(TITLES)))
    np.testing.assert_allclose(lessons.text_vectors @ lessons.item_vectors.T, texts @ titles.T, atol=2e-3)
    np.testing.assert_allclose(lessons.text_vectors @ lessons.text_vectors.T, texts @ texts.T, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(lessons.text_vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("dim", [2, 5, DIM + 8])
def test_dimensions_are_cut_or_filled_up_with_zeros(encoder: Any, dim: int) -> None:
    lessons = asked(encoder, TITLES, QUERIES, dim, seed=0)
    for vectors in (lessons.text_vectors, lessons.item_vectors):
        assert vectors.dtype == np.float32
        assert vectors.shape[1] == dim
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
        assert (vectors[:, DIM:] == 0).all()
    titles = centred(encoder, TITLES.fill_null("").to_list(), documents=True)
    kept = titles @ np.linalg.svd(titles, full_matrices=False)[2][:dim].T
    np.testing.assert_allclose(lessons.item_vectors @ lessons.item_vectors.T, unit(kept) @ unit(kept).T, atol=3e-3)


@given(st.integers(0, 99), st.integers(1, 6), st.integers(1, 9))
def test_principal_directions_are_those_of_the_svd(seed: int, width: int, dim: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(20, width)).astype(np.float32) * np.arange(1, width + 1)
    directions = principal_directions(vectors.astype(np.float32), dim)
    assert directions.shape == (width, dim)
    _, lengths, rows = np.linalg.svd(vectors, full_matrices=False)
    kept = rows[:dim].T
    assert (directions[:, width:] == 0).all()
    np.testing.assert_allclose(np.abs((kept * directions[:, :width]).sum(0)), 1, atol=3e-3)
    np.testing.assert_allclose(np.linalg.norm(vectors @ directions, axis=0)[:width], lengths[:dim], rtol=1e-3)


def test_texts_are_unique_and_the_frequent_words_come_first(encoder: Any) -> None:
    lessons = asked(encoder, TITLES, QUERIES, DIM, seed=0)
    texts = lessons.texts.to_list()
    assert len(set(texts)) == len(texts) == len(lessons.text_vectors)
    # Of titles and queries: red and shoe and hat in 3, blue and mug in 2, green in one alone.
    assert set(texts[: lessons.words]) == {"red", "shoe", "hat", "blue", "mug"}
    assert set(texts[:3]) == {"red", "shoe", "hat"}
    assert set(QUERIES) <= set(texts)
    for text in texts:
        assert text == normalise(text) != ""
    spans = set(texts[lessons.words :]) - set(QUERIES)
    titles = [words(title) for title in TITLES.drop_nulls()]
    for span in spans:
        assert any([word for word in title if word in words(span)] == words(span) for title in titles)


def test_a_sample_of_a_large_catalogue_and_the_first_queries(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_TITLES", 4)
    monkeypatch.setattr(module, "MOST_QUERIES", 1)
    titles = pl.Series([f"red {'hat ' * n}" for n in range(1, 9)])
    lessons = asked(encoder, titles, pl.Series(["mug", "blue green"]), DIM, seed=0)
    assert len(lessons.items) == len(lessons.item_vectors) == 4
    assert lessons.items.tolist() == sorted(set(lessons.items.tolist()))
    own = unit(centred(encoder, titles.gather(lessons.items).to_list(), documents=True))
    np.testing.assert_allclose(lessons.item_vectors @ lessons.item_vectors.T, own @ own.T, atol=3e-3)
    assert "mug" in lessons.texts
    assert "blue green" not in lessons.texts


def test_a_text_is_asked_once(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a line feed in a title and a query in Chinese; in parts, so that a killed fit loses the last alone."""
    monkeypatch.setattr(kept_module, "KEEP_EVERY", 2)
    encoder, told = load_encoder(plain, device="cpu"), []
    for name in ("encode_query", "encode_document"):
        monkeypatch.setattr(encoder, name, _listened(getattr(encoder, name), told))
    kept = KeptVectors(tmp_path / "kept")
    queries = pl.Series(["手机\n壳", "red\r\nhat", "a\u2028b"])
    first = ask_teacher(encoder, kept, TITLES, queries, 7, seed=0)
    assert len(told) > 0
    told.clear()
    again = ask_teacher(encoder, KeptVectors(tmp_path / "kept"), TITLES, queries, 7, seed=0)
    assert told == []
    assert {"手机 壳", "red hat", "a b"} <= set(again.texts)
    np.testing.assert_array_equal(first.text_vectors, again.text_vectors)
    np.testing.assert_array_equal(first.item_vectors, again.item_vectors)
    ask_teacher(encoder, kept, pl.concat([TITLES, pl.Series(["new mug"])]), queries, 7, seed=0)
    assert told.count("new mug") >= 1
    assert "Red  shoe" not in told
    assert all(path.suffix == ".parquet" for path in (tmp_path / "kept").iterdir())


def _listened(encode: Any, told: list[str]) -> Any:
    def listened(texts: list[str], **options: Any) -> Any:
        told.extend(texts)
        return encode(texts, **options)

    return listened


def test_the_same_seed_asks_the_same(encoder: Any) -> None:
    first, second, other = (asked(encoder, TITLES, QUERIES, DIM, seed=seed) for seed in (0, 0, 1))
    assert first.texts.to_list() == second.texts.to_list() != other.texts.to_list()
    np.testing.assert_array_equal(first.text_vectors, second.text_vectors)


def test_a_fingerprint_knows_every_file_and_its_name(plain: Path, tmp_path: Path) -> None:
    here = Path(copytree(plain, tmp_path / "copy"))
    before = fingerprint(plain)
    assert fingerprint(here) == before
    weights = here / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    changed = fingerprint(here)
    (here / "vocab.txt").rename(here / "words.txt")
    renamed = fingerprint(here)
    (here / "deep").mkdir()
    (here / "deep" / "more").write_text("")
    assert len({before, changed, renamed, fingerprint(here)}) == 4
