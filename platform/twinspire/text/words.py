"""The plain words of a lexical engine: what BM25 matches, and what "no word in common" compares."""

from __future__ import annotations

import re

from twinspire.text import normalise

# Han and Kana are written without blanks: each character is a word, or no query would ever match a title.
_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_WORD = re.compile(f"[{_CJK}]|[^\\W_{_CJK}]+")


def words(text: str) -> list[str]:
    """Runs of letters and digits of the normalised text, in order; no stemming, no stop words."""
    return _WORD.findall(normalise(text))


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where the words of an already normalised text begin and end."""
    return [match.span() for match in _WORD.finditer(text)]
