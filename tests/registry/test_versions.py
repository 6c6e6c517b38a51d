"""Names of versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.errors import RegistryError
from twinspire.registry.versions import check_name, parse

names = st.from_regex(r"[A-Za-z0-9_.-]([A-Za-z0-9_ .-]{0,20}[A-Za-z0-9_.-])?", fullmatch=True)


@given(names, st.integers(1, 999_999_999), st.from_regex(r"[a-z][a-z0-9_-]{0,10}", fullmatch=True), st.booleans())
def test_both_ways_to_name_a_version(name, version, alias, with_scheme):
    check_name(name)
    scheme = "models:/" if with_scheme else ""
    assert parse(f"{scheme}{name}/{version}") == (name, None, version)
    assert parse(f"{scheme}{name}@{alias}") == (name, alias, 0)


@given(st.text())
def test_any_other_text_is_refused_or_read(text):
    try:
        name, alias, version = parse(text)
    except RegistryError:
        return
    check_name(name)
    assert (alias is None) == (text.removeprefix("models:/") == f"{name}/{text.rpartition('/')[2]}")
    assert version >= 0


@pytest.mark.parametrize("text", ["shop", "shop/", "shop/x", "shop/²", "@champion", "shop@", "a/b/1", "shop/-1"])
def test_half_a_name_is_refused(text):
    with pytest.raises(RegistryError, match="NAME/VERSION"):
        parse(text)
