"""Both towers after a teacher whose vector of a text is the sum of its words' vectors."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tiny_shop
import torch

from twinspire import dataset
from twinspire.config import Config, load_config
from twinspire.features.dictionaries import item_text
from twinspire.features.encode import Encoded, encode
from twinspire.model import TwoTower, to_bags
from twinspire.ragged import Ragged
from twinspire.teacher.lessons import Lessons
from twinspire.training import distil as module
from twinspire.training.build import new_model
from twinspire.training.distil import distil, start_words

DIM = 16
SETTINGS = ("model.dim=16", "model.hidden=16")
WORDS = [*tiny_shop.COLOURS, *tiny_shop.THINGS, *tiny_shop.BRANDS]


@pytest.fixture(scope="module")
def encoded(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    config = load_config(None, SETTINGS)
    folder = tmp_path_factory.mktemp("distil") / "encoded"
    return encode(dataset.read(tiny_dataset), config.features, config.log, config.text, folder, 0)[0]


@pytest.fixture(scope="module")
def titles(tiny_dataset: Path, encoded: Encoded) -> pl.Series:
    return item_text(dataset.read(tiny_dataset).items, encoded.dictionaries.config)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_STEPS", 150)


def lessons_of(titles: pl.Series) -> Lessons:
    rng = np.random.default_rng(0)
    of_word = dict(zip(WORDS, rng.normal(size=(len(WORDS), DIM)), strict=True))

    def vectors(texts: list[str]) -> np.ndarray:
        summed = np.stack([sum(of_word[word] for word in text.split()) for text in texts])
        return (summed / np.linalg.norm(summed, axis=1, keepdims=True)).astype(np.float32)

    pairs = [f"{colour} {thing}" for colour in tiny_shop.COLOURS for thing in tiny_shop.THINGS]
    texts = [*WORDS, *pairs]
    rows = np.arange(len(titles))
    return Lessons(pl.Series(texts), vectors(texts), rows, vectors(titles.to_list()), len(WORDS))


def learnt(encoded: Encoded, lessons: Lessons, *settings: str) -> tuple[TwoTower, float, Config]:
    config = load_config(None, (*SETTINGS, *settings))
    with tiny_shop._one_thread():
        return *distil(encoded, lessons, config), config


def queries(model: TwoTower, encoded: Encoded, texts: pl.Series) -> np.ndarray:
    """Vectors of texts by the query tower, (T, H, D), of nobody."""
    bags = encoded.dictionaries.text(texts)
    nothing = Ragged(np.zeros(0, np.int32), np.zeros(len(texts) + 1, np.int64))
    return model.queries(to_bags({name: bags.get(name, nothing) for name in model.query_tower.names})).detach().numpy()


@pytest.mark.parametrize("heads", [1, 2])
def test_both_towers_say_what_the_teacher_says(encoded: Encoded, titles: pl.Series, heads: int) -> None:
    lessons = lessons_of(titles)
    model, loss, _ = learnt(encoded, lessons, f"model.heads={heads}")
    assert not model.training
    of_texts = (queries(model, encoded, lessons.texts) * lessons.text_vectors[:, None]).sum(-1)
    assert of_texts.shape == (len(lessons.texts), heads)
    assert of_texts.mean() > 0.95
    items = model.items(to_bags(encoded.store.item_features(lessons.items))).detach().numpy()
    of_titles = (items * lessons.item_vectors).sum(-1)
    assert of_titles.mean() > 0.95
    assert loss == pytest.approx(2 - of_texts.mean() - of_titles.mean(), abs=0.05)


def test_the_same_seed_learns_the_same(encoded: Encoded, titles: pl.Series) -> None:
    lessons = lessons_of(titles)
    first, second, other = (learnt(encoded, lessons, f"training.seed={seed}")[0].state_dict() for seed in (0, 0, 1))
    for name, weights in first.items():
        assert torch.equal(weights, second[name]), name
    assert not all(torch.equal(weights, other[name]) for name, weights in first.items())


def test_what_was_learnt_fits_the_model_that_goes_on(encoded: Encoded, titles: pl.Series) -> None:
    model, _, config = learnt(encoded, lessons_of(titles))
    fresh = new_model(encoded.dictionaries, config.model, seed=5, sparse=False)
    fresh.load_state_dict(model.state_dict())
    texts = pl.Series(["red mug", "acme"])
    np.testing.assert_allclose(queries(fresh.eval(), encoded, texts), queries(model, encoded, texts), atol=1e-6)


def test_words_start_at_the_teachers_vectors_and_keep_their_lengths(encoded: Encoded, titles: pl.Series) -> None:
    lessons = lessons_of(titles)
    taught = [*WORDS[:3], "no such word", "red mug", *WORDS[3:5]]  # the unknown and the two words have no row alone
    vectors = np.random.default_rng(1).normal(size=(len(taught), DIM)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    some = Lessons(pl.Series(taught), vectors, lessons.items, lessons.item_vectors, len(taught))
    config = load_config(None, SETTINGS)
    model = new_model(encoded.dictionaries, config.model, seed=0, sparse=True)
    before = model.tables["words"].weight.detach().numpy().copy()
    start_words(model, encoded.dictionaries, some)
    after = model.tables["words"].weight.detach().numpy()
    np.testing.assert_allclose(np.linalg.norm(after, axis=1), np.linalg.norm(before, axis=1), rtol=1e-5)
    changed = set()
    for word, vector in zip(taught, vectors, strict=True):
        rows = encoded.dictionaries.text_one(word)["words"].values
        if len(rows) == 1:
            length = np.linalg.norm(before[rows[0]])
            np.testing.assert_allclose(after[rows[0]], vector * length, atol=1e-5)
            changed.add(int(rows[0]))
    assert len(changed) == 5
    others = np.setdiff1d(np.arange(len(before)), list(changed))
    np.testing.assert_array_equal(after[others], before[others])
