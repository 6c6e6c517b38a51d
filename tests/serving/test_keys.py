import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.keys import KeyRing, read_keys
from twinspire.errors import ConfigError

VARIABLE = "TWINSPIRE_TEST_KEYS"
names = st.from_regex(r"[a-z0-9._-]{1,20}", fullmatch=True)
keys = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=40).filter(
    lambda key: not key.startswith("sha256:")
)


def read(tmp_path, text):
    file = tmp_path / "keys"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_keys(str(file), VARIABLE)


@given(
    held=st.dictionaries(names, keys, min_size=1, max_size=5).filter(lambda d: len(set(d.values())) == len(d)),
    other=keys,
)
def test_each_key_is_its_holders_and_no_other_key_is_anyones(tmp_path_factory, held, other):
    folder = tmp_path_factory.mktemp("keys")
    for write in (str, lambda key: "sha256:" + hashlib.sha256(key.encode()).hexdigest()):
        lines = [f"{name}:{write(key)}" for name, key in held.items()]
        ring = read(folder, "\n".join(["# who", "", *lines]))
        assert {name: ring.name_of(key.encode()) for name, key in held.items()} == {name: name for name in held}
        if other not in held.values():
            assert ring.name_of(other.encode()) is None


@given(presented=st.binary())
def test_any_bytes_may_be_presented(presented):
    key = b"0123456789abcdef"
    assert KeyRing({"a": hashlib.sha256(key).digest()}).name_of(presented) == ("a" if presented == key else None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no key"),
        ("# nothing\n\n", "no key"),
        ("secret-secret-secret", "name:key"),
        ("a b:secret-secret-secret", "name:key"),
        ("shop:short", "at least 16"),
        ("shop:secret secret secret", "without spaces"),
        ("shop:sha256:abc", "64 hexadecimal"),
        ("a:secret-secret-secret\na:secret-secret-other!", "twice"),
        ("a:secret-secret-secret\nb:secret-secret-secret", "same key"),
        (b"a:secret-secret-secret\xff", "cannot be read"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_without_its_keys(tmp_path, text, told):
    with pytest.raises(ConfigError, match=told) as error:
        read(tmp_path, text)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(str(tmp_path / "none"), VARIABLE)


def test_the_environment_is_the_other_way_and_empty_is_not_none(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert read_keys(None, VARIABLE) is None
    monkeypatch.setenv(VARIABLE, "a:0123456789abcdef,b:fedcba9876543210\n")
    assert read_keys(None, VARIABLE).name_of(b"fedcba9876543210") == "b"
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(ConfigError, match=VARIABLE):
        read_keys(None, VARIABLE)
