import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.text import normalise, normalise_column

any_text = st.text(st.characters())


@pytest.mark.parametrize(
    ("typed", "normal"),
    [
        ("  Apple \t iPhone\n4S ", "apple iphone 4s"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full width"),
        ("Straße", "strasse"),
        ("E\u0301clair", "\u00e9clair"),
        ("ｶﾞ", "ガ"),
        ("", ""),
        (" \u00a0 ", ""),
    ],
)
def test_typed_variants_have_one_normal_form(typed: str, normal: str) -> None:
    assert normalise(typed) == normal


@given(any_text)
def test_the_normal_form_is_a_fixed_point(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_column_is_normalised_as_each_text_is(texts: list[str | None]) -> None:
    column = normalise_column(pl.Series(texts, dtype=pl.String))
    assert column.to_list() == [None if text is None else normalise(text) for text in texts]
