"""A model over tomorrow's dictionaries begins where today's bundle ended."""

import numpy as np
import polars as pl
import pytest
import rich_shop
import torch
from edited import edit_manifest

from twinspire import dataset
from twinspire.bundle.earlier import Earlier, begins_warm
from twinspire.config import load_config
from twinspire.errors import ConfigError
from twinspire.features.encode import encode
from twinspire.model import TwoTower, to_bags
from twinspire.text import Vocabulary
from twinspire.training.build import architecture
from twinspire.training.warm import origins

SETTINGS = (*rich_shop.SETTINGS, "model.dim=16", "model.hidden=16", "negatives.count=64", "training.start=auto")


@pytest.fixture(scope="module")
def tomorrow(rich, tmp_path_factory):
    """The shop's tables a day later, encoded: items in another order, with new ones before them and dearer than all."""
    folder = tmp_path_factory.mktemp("tomorrow")
    items = pl.read_parquet(rich.data / "items.parquet").reverse()
    new = items.head(4).with_columns(
        pl.format("new-{}", "item_id").alias("item_id"),
        pl.lit("Acme parasol violet").alias("title"),
        pl.lit("Acme").alias("brand"),
        pl.lit(900.0).alias("price"),
    )
    pl.concat([new, items]).write_parquet(folder / "items.parquet")
    log = pl.read_parquet(rich.data / "interactions.parquet")
    later = log.tail(60).with_columns(pl.col("timestamp") + pl.duration(days=3), pl.lit("violet").alias("query"))
    pl.concat([log, later]).write_parquet(folder / "interactions.parquet")
    pl.read_parquet(rich.data / "users.parquet").write_parquet(folder / "users.parquet")
    config = load_config(None, SETTINGS)
    source = dataset.read(folder)
    encoded, _ = encode(source, config.features, config.log, config.text, folder / "encoded", 0)
    return source, encoded


@pytest.fixture(scope="module")
def started(rich, tomorrow):
    source, encoded = tomorrow
    config = load_config(None, SETTINGS)
    model = TwoTower(architecture(encoded.dictionaries, config.model))
    model.load_state_dict(Earlier.read(rich.folder).weights(encoded, source.items["item_id"], config))
    return model.eval()


def test_items_that_read_the_same_rows_have_the_vectors_that_they_had(rich, tomorrow, started):
    source, encoded = tomorrow
    before = {name: row for row, name in enumerate(rich.bundle.items["item_id"])}
    old = {name: rich.encoded.store.items[name] for name in rich.encoded.store.items}
    same = []
    for row, item in enumerate(source.items["item_id"]):
        bags = encoded.store.items
        if item in before and all(
            np.diff(bags[name].offsets)[row] == np.diff(old[name].offsets)[before[item]] for name in old
        ):
            same.append((row, before[item]))
    rows, were = (np.array(column, np.int32) for column in zip(*same, strict=True))
    assert len(rows) > 10
    with torch.inference_mode():
        vectors = started.items(to_bags(encoded.store.item_features(rows))).numpy()
    alike = (vectors * rich.bundle.item_vectors[were]).sum(1)
    assert np.median(alike) > 0.9999, "as they were"
    assert alike.min() > 0.7, "or nearly, where a price got another bin"


def test_each_row_comes_from_the_row_of_its_key(rich, tomorrow):
    source, encoded = tomorrow
    earlier = Earlier.read(rich.folder)
    before, now = earlier.keys(), earlier.keys().__class__(encoded.dictionaries, source.items["item_id"])
    brands = encoded.dictionaries.encodings["item.brand"].values
    old_brands = before.dictionaries.encodings["item.brand"].values
    for row, old in enumerate(origins("item.brand", before, now)[1:], 1):
        assert old == (old_brands.index(brands[row - 1]) + 1 if brands[row - 1] in old_brands else 0)
    ids = origins("item.id", before, now)
    assert ids[0] == 0
    for row, old in enumerate(ids[1:], 1):
        assert old == 0 or before.items[int(old) - 1] == now.items[row - 1]
    assert (ids > 0).sum() == len(before.items)
    words = origins("words", before, now)
    new, old = (keys.dictionaries.vocabularies["words"] for keys in (now, before))
    known = words > 0
    np.testing.assert_array_equal(new.hashes[known], old.hashes[words[known]])
    assert not np.isin(new.hashes[~known][1:], old.hashes).any()


def test_a_number_s_bin_comes_from_the_bin_that_holds_its_middle(rich):
    from dataclasses import replace

    from twinspire.features.encodings import NumberEncoding

    earlier = Earlier.read(rich.folder).keys()

    def keys(edges):
        encodings = {**earlier.dictionaries.encodings, "item.price": NumberEncoding(edges)}
        return replace(earlier, dictionaries=replace(earlier.dictionaries, encodings=encodings))

    def found(old, new):
        return origins("item.price", keys(old), keys(new)).tolist()

    assert found([10.0, 20.0], [10.0, 20.0]) == [0, 1, 2, 3]
    assert found([10.0, 20.0], [10.0, 14.0, 30.0]) == [0, 1, 2, 3, 3]  # below 10, 10-14, 14-30 (22), from 30 on
    assert found([], [5.0]) == [0, 1, 1]
    assert found([5.0], []) == [0, 1]


def test_a_vocabulary_that_lost_every_word_is_no_error(rich):
    from dataclasses import replace

    keys = Earlier.read(rich.folder).keys()
    empty = Vocabulary(np.array([-1], np.int32), np.array([0]))
    bare = replace(keys, dictionaries=replace(keys.dictionaries, vocabularies={"words": empty, "grams": empty}))
    assert origins("words", keys, bare).tolist() == [0]
    assert set(origins("words", bare, keys).tolist()) == {0}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (("model.dim=32",), "its section model of the config is another"),
        (("loss.temperature=0.2",), "its section loss"),
        (("retrieval.memory=0",), "its section retrieval"),
        (("features.history_length=7",), "its towers read other features"),
    ],
)
def test_what_cannot_be_begun_with_is_told(rich, tomorrow, settings, reason):
    _, encoded = tomorrow
    earlier = Earlier.read(rich.folder)
    config = load_config(None, (*SETTINGS, *settings))
    if "features" in settings[0]:
        source, _ = tomorrow
        encoded, _ = encode(source, config.features, config.log, config.text, encoded.folder.parent / "other", 0)
    warm, said = begins_warm(earlier, encoded, config, None)
    assert not warm
    assert said.startswith(f"full: {rich.folder.name} cannot be begun with, {reason}")
    with pytest.raises(ConfigError, match=r"training.start: warm cannot begin with .*; use auto or full"):
        begins_warm(earlier, encoded, load_config(None, (*SETTINGS, *settings, "training.start=warm")), None)


def test_auto_begins_anew_now_and_then(rich, tomorrow, tmp_path):
    import shutil

    _, encoded = tomorrow
    config = load_config(None, (*SETTINGS, "training.full_every=3"))
    for behind, warm in ((0, True), (1, True), (2, False)):
        folder = shutil.copytree(rich.folder, tmp_path / str(behind))
        training = {**rich.bundle.manifest.training, "warm_starts": behind}
        edit_manifest(folder, training=training)
        assert begins_warm(Earlier.read(folder), encoded, config, None)[0] is warm
    full = load_config(None, (*SETTINGS, "training.start=full"))
    assert begins_warm(Earlier.read(rich.folder), encoded, full, None) == (False, "full: as configured")
    assert "teacher" in str(Earlier.read(rich.folder).why_not(encoded, config, "somebody"))
