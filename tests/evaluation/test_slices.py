import polars as pl
import pytest

from twinspire.evaluation import TrainingClicks
from twinspire.evaluation.slices import slices
from twinspire.text.words import words

TITLES = pl.Series(["Red shoe", "Blue hat", "手机壳"])


def table(queries: list[str], items: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"query": queries, "item": pl.Series(items, dtype=pl.Int32)})


# 12 clicks: "shoe" has 6 and begins in the first third, "hat" has 3 and begins at 6/12, "cap" and "x" follow.
TRAINING = TrainingClicks.of(table(["shoe"] * 5 + ["SHOE "] + ["hat"] * 3 + ["cap"] * 2 + ["x"], [0] * 6 + [1] * 6), 3)


def test_training_clicks_are_counted_by_normalised_query() -> None:
    assert TRAINING.queries.rows() == [("shoe", 6), ("hat", 3), ("cap", 2), ("x", 1)]
    assert TRAINING.items.tolist() == [6, 6, 0]
    assert TRAINING.pairs.rows()[-2:] == [("shoe", 0, 6), ("x", 1, 1)]


def test_head_torso_tail_and_unseen_split_the_cases() -> None:
    cases = table(["Shoe", "hat", "cap", "x", "beanie"], [0, 1, 1, 1, 1])
    masks = slices(cases, TITLES, TRAINING)
    assert masks["all"].all()
    assert masks["head"].tolist() == [True, False, False, False, False]
    assert masks["torso"].tolist() == [False, True, False, False, False]
    assert masks["tail"].tolist() == [False, False, True, True, False]
    assert masks["unseen"].tolist() == [False, False, False, False, True]


def test_no_common_word_compares_words_not_characters() -> None:
    cases = table(["RED", "redshoe", "shoe!", "机", "blue", "blue", "..."], [0, 0, 0, 2, 1, 0, 0])
    mask = slices(cases, TITLES, TRAINING)["no common word"]
    assert mask.tolist() == [False, True, False, False, False, True, True]


def test_no_training_makes_every_query_unseen() -> None:
    nothing = TrainingClicks.of(table([], []).cast({"query": pl.String}), 3)
    masks = slices(table(["shoe"], [0]), TITLES, nothing)
    assert masks["unseen"].all()
    assert not masks["head"].any()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wi-Fi 6E_router", ["wi", "fi", "6e", "router"]),
        ("ÉTÉ", ["été"]),
        ("iPhone手机壳", ["iphone", "手", "机", "壳"]),
    ],
)
def test_words_are_runs_of_letters_and_digits(text: str, expected: list[str]) -> None:
    assert words(text) == expected
