from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from twinspire.ragged import Ragged
from twinspire.text import Tokeniser, TokeniserConfig, normalise
from twinspire.text import tokeniser as module

tokeniser = Tokeniser(TokeniserConfig(hash_bits=30))
anything = st.text(st.characters())  # lone surrogates, NULs, line feeds and all planes included
tricky = st.text(
    st.sampled_from(
        "aB1 #\n\r\x00\x85\u2028éß\u0301\u0345ﬁ\u200d\u200b\ufe0f❤👩手機カ\u3099갤ᄀ\u1161ไ\u0e31हि\ud800\udc00𠮷"
    )
)


def words(text: str) -> list[int]:
    return tokeniser.encode_one(text).words.values.tolist()


def grams(text: str) -> list[int]:
    return tokeniser.encode_one(text).grams.values.tolist()


def rows(bag: Ragged) -> list[list[int]]:
    return [bag.row(i).tolist() for i in range(len(bag))]


def assert_batch_equals_singles(texts: Sequence[str]) -> None:
    tokens = tokeniser.encode(texts)
    assert len(tokens) == len(texts)
    assert rows(tokens.words) == [words(text) for text in texts]
    assert rows(tokens.grams) == [grams(text) for text in texts]


@given(st.lists(anything | tricky))
@settings(max_examples=300)
def test_batch_and_single_calls_give_the_same_ids(texts: list[str]) -> None:
    assert_batch_equals_singles(texts)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_column_gives_the_same_ids_as_a_list(texts: list[str]) -> None:
    column, listed = tokeniser.encode(pl.Series(texts, dtype=pl.String)), tokeniser.encode(texts)
    assert rows(column.words) == rows(listed.words)
    assert rows(column.grams) == rows(listed.grams)


def test_blocks_are_joined_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TEXTS_A_BLOCK", 2)
    assert_batch_equals_singles(["red shoe", "\u0301 mark first", "", "手机", "last\n"])


@given(anything | tricky)
def test_ids_fit_the_table_and_grow_with_the_text(text: str) -> None:
    small = Tokeniser(TokeniserConfig(hash_bits=8)).encode_one(text)
    for bag in (small.words, small.grams):
        assert bag.values.dtype == np.int32
        assert len(bag) == 1
        assert ((bag.values >= 0) & (bag.values < 256)).all()


@given(anything | tricky)
def test_a_normalised_query_gives_the_same_ids_as_the_typed_one(text: str) -> None:
    assert words(normalise(text)) == words(text)
    assert grams(normalise(text)) == grams(text)


def test_a_null_is_an_empty_text() -> None:
    tokens = tokeniser.encode(pl.Series(["a", None], dtype=pl.String))
    assert tokens.words.lengths.tolist() == [1, 0]


def test_words_come_with_pairs_and_trigrams() -> None:
    assert len(words("red running shoe")) == 5
    assert words("red running")[:2] == words("red")[:1] + words("running")[:1]
    assert len(grams("red")) == 3  # #re red ed#
    assert len(grams("4s")) == 2
    assert len(grams("x")) == 1
    assert set(grams("cats")) & set(grams("cat")) == set(grams("cats")[:2])  # #ca cat, not at#


def test_the_order_of_words_matters_to_pairs_only() -> None:
    one, other = words("red shoe"), words("shoe red")
    assert {one[0], one[1]} == {other[0], other[1]}
    assert one[2] != other[2]


def test_kinds_are_hashed_apart() -> None:
    assert not set(words("a b")) & set(grams("a b"))
    assert words("ab")[0] not in words("a b")
    assert words("手机")[2] not in words("手 . 机")[:2]


@pytest.mark.parametrize(
    ("typed", "same"),
    [
        ("Éclair", "e\u0301clair"),
        ("STRASSE", "straße"),
        ("ｉＰｈｏｎｅ", "iphone"),
        ("wi-fi", "wi fi"),
        ("a\nb", "a b"),
        ("red\x00shoe", "red shoe"),
        ("co\u00adop", "coop"),  # a soft hyphen is not there
        ("手机壳", "手机 壳"),
        ("❤\ufe0f", ""),
        ("ｶﾞﾑ", "ガム"),
    ],
)
def test_spellings_that_mean_the_same_give_the_same_ids(typed: str, same: str) -> None:
    assert words(typed) == words(same)
    assert grams(typed) == grams(same)


def test_cjk_characters_are_tokens_and_have_no_trigrams() -> None:
    assert len(words("红色手机")) == 7  # four characters, three pairs
    assert set(words("手机")) < set(words("红色手机壳"))
    assert grams("红色かばんカメラ") == []
    assert len(words("iphone手机")) == 5


@pytest.mark.parametrize("text", ["हिन्दी", "갤럭시", "รองเท้า", "نمی\u200cشود", "q\u0308\u0323r"])
def test_marks_joiners_and_blankless_scripts_stay_in_one_word(text: str) -> None:
    assert len(words(text)) == 1
    assert grams(text)


def test_a_text_is_read_up_to_the_limit() -> None:
    short = Tokeniser(TokeniserConfig(max_characters=7))
    assert rows(short.encode(["red shoe", "red"]).words) == rows(short.encode(["red sho", "red"]).words)
    assert (
        short.encode_one("red shoe" * 100_000).words.values.tolist()
        == short.encode_one("red sho").words.values.tolist()
    )
    assert len(tokeniser.encode_one("\ufdfa" * 1_000_000).words.values) < 100_000


def test_distinct_words_rarely_share_a_row() -> None:
    tokens = Tokeniser(TokeniserConfig(hash_bits=22)).encode([f"word{i}" for i in range(100_000)])
    assert len(tokens.words.values) == 100_000
    expected = 2**22 * (1 - np.exp(-100_000 / 2**22))
    assert abs(len(np.unique(tokens.words.values)) - expected) < 200


def test_the_fingerprint_names_version_and_config() -> None:
    assert Tokeniser().fingerprint == Tokeniser().fingerprint
    assert Tokeniser().fingerprint != Tokeniser(TokeniserConfig(hash_bits=21)).fingerprint
    assert Tokeniser().fingerprint != Tokeniser(TokeniserConfig(max_characters=100)).fingerprint


def test_the_ids_of_this_version_do_not_change() -> None:
    assert Tokeniser.version == "1"
    assert Tokeniser().fingerprint == "e8bf3a504530cda50a00e81998865090113dfd887048c71762c791350897e17f"


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(ValidationError, match="hash_bit"):
        TokeniserConfig.model_validate({"hash_bit": 22})
