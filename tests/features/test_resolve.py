from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from twinspire.dataset import Dataset
from twinspire.errors import ConfigError
from twinspire.features.resolve import resolve
from twinspire.features.spec import Category, FeatureConfig, History, Id, NgramBag, Number

Shop = Callable[..., Dataset]
NO_HISTORY, HISTORY = np.zeros(10, np.int64), np.ones(10, np.int64)


def items(**columns: object) -> pl.DataFrame:
    return pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"], **columns})


def users(**columns: object) -> pl.DataFrame:
    return pl.DataFrame({"user_id": ["u", "v"], **columns})


def names(features: tuple, side: str) -> list[str]:
    return [f"{feature.kind}:{feature.name(side)}" for feature in features]


def test_auto_with_titles_only(shop_of: Shop) -> None:
    found = resolve(FeatureConfig(), shop_of(None), NO_HISTORY)
    assert names(found.query, "user") == ["ngram_bag:words", "ngram_bag:grams"]
    assert names(found.item, "item") == ["ngram_bag:words", "ngram_bag:grams", "id:item.id"]


def test_auto_takes_what_the_tables_hold(shop_of: Shop) -> None:
    shop = shop_of(
        None,
        items=items(brand=["X", None], category=[None, None], price=[1.0, 2.0], weight=[1.0, 2.0]),
        users=users(
            gender=["f", "m"],
            member=[True, None],
            age=[30, 40],
            income=[1.5, None],
            empty=[None, None],
            plan=pl.Series(["a", "b"], dtype=pl.Categorical),
            joined=[[1], [2]],
            history=["x", "y"],
        ),
    )
    found = resolve(FeatureConfig(), shop, HISTORY)
    assert names(found.item, "item")[3:] == ["category:item.brand", "number:item.price"]
    assert names(found.query, "user")[2:] == [
        "category:user.gender",
        "category:user.member",
        "category:user.age",
        "number:user.income",
        "category:user.plan",
        "history:history.id",
        "history:history.brand",
        "history:history.price",
    ]


def test_auto_takes_no_identifier_for_a_label(shop_of: Shop) -> None:
    many = pl.DataFrame({"user_id": [f"u{n}" for n in range(2000)]}).with_columns(
        pl.col("user_id").alias("email"), pl.int_range(pl.len()).alias("joined_on")
    )
    found = resolve(FeatureConfig(), shop_of(None, users=many), NO_HISTORY)
    assert names(found.query, "user")[2:] == ["number:user.joined_on"]


def test_the_papers_towers(shop_of: Shop) -> None:
    shop = shop_of(None, users=users(gender=["f", "m"]))
    text = ["ngram_bag:words", "ngram_bag:grams"]
    expected = {
        "text": text,
        "profile": [*text, "category:user.gender"],
        "history": [*text, "category:user.gender", "history:history.id"],
    }
    for query, features in expected.items():
        assert names(resolve(FeatureConfig(query=query), shop, HISTORY).query, "user") == features
    assert names(resolve(FeatureConfig(query="history"), shop_of(None), HISTORY).query, "user") == [
        *text,
        "history:history.id",
    ]


@pytest.mark.parametrize(
    ("query", "lengths", "says"),
    [
        ("profile", HISTORY, r"features\.query: profile needs a users table"),
        ("history", NO_HISTORY, r"features\.query: history needs users with events before"),
        ("history", NO_HISTORY[:0], r"features\.query: history needs users with events before"),
    ],
)
def test_a_tower_that_the_tables_cannot_feed_is_refused(
    shop_of: Shop, query: str, lengths: np.ndarray, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        resolve(FeatureConfig(query=query), shop_of(None, users=users()), lengths)
    assert "\n" not in str(caught.value)


def test_histories_only_where_there_are_some(shop_of: Shop) -> None:
    rare = np.zeros(100, np.int64)
    rare[0] = 5
    assert not [f for f in resolve(FeatureConfig(), shop_of(None), rare).query if isinstance(f, History)]
    assert not [f for f in resolve(FeatureConfig(), shop_of(None), rare[:0]).query if isinstance(f, History)]
    assert [f for f in resolve(FeatureConfig(), shop_of(None), HISTORY).query if isinstance(f, History)]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (FeatureConfig(item_text=("name",)), r"features\.item_text.*items.*'name'.*title"),
        (FeatureConfig(item=(Category(column="colour"),)), r"features\.item.*'colour'.*item_id, title"),
        (FeatureConfig(item=(Number(column="title"),)), r"'title' of items is String, not a number"),
        (FeatureConfig(query=(Category(column="gender"),)), r"features\.query.*'gender'.*users table"),
        (FeatureConfig(query=(Number(column="age"),)), r"features\.query.*'age'.*users table"),
        (FeatureConfig(query=(History(of="brand"),)), r"features\.query.*history of 'brand'.*id"),
        (FeatureConfig(query=(History(), History(length=3))), r"features\.query.*two features.*'history\.id'"),
        (FeatureConfig(query=(History(of="words"),)), r"features\.query.*history of 'words'"),
        (FeatureConfig(item=(NgramBag(), NgramBag())), r"features\.item.*two features.*'words'"),
        (FeatureConfig(item=(Id(), Category(column="id"))), r"features\.item.*two features.*'item\.id'"),
        (FeatureConfig(query=(Category(column="history"),)), r"features\.query.*'history'"),
    ],
)
def test_an_impossible_feature_is_one_clear_line(shop_of: Shop, config: FeatureConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        resolve(config, shop_of(None), NO_HISTORY)
    assert "\n" not in str(caught.value)


def test_columns_of_the_users_table_are_checked(shop_of: Shop) -> None:
    shop = shop_of(None, users=users(gender=["f", "m"]))
    with pytest.raises(ConfigError, match=r"'age'.*user_id, gender"):
        resolve(FeatureConfig(query=(Category(column="age"),)), shop, NO_HISTORY)
    with pytest.raises(ConfigError, match="declare it as a category"):
        resolve(FeatureConfig(query=(Number(column="gender"),)), shop, NO_HISTORY)
    assert resolve(FeatureConfig(query=(Category(column="gender"),)), shop, NO_HISTORY)
