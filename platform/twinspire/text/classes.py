"""What part each Unicode code point plays in a token, as one table of bytes.

    WORD      letters and numbers of every script that is not below, Hangul and Thai among them
    CJK       Han, Kana and Bopomofo: each character is a token of its own
    MARK      combining marks: they stay in the word that they follow, and start none
    IGNORED   joiners, direction marks, variation selectors: as if they were not there
    BREAK     all else: blanks, punctuation, symbols, emoji, controls, lone surrogates

Scripts that are written without blanks but are alphabetic (Thai, Lao, Khmer) count as words: a run of them
is one word, which trigrams then take apart.
"""

from __future__ import annotations

import functools
import unicodedata
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

BREAK, WORD, CJK, MARK, IGNORED = range(5)

_PART_OF_CATEGORY = {"L": WORD, "N": WORD, "M": MARK}
# Planes above the second hold Han only, and then selectors and tags; the table does not ask for each of
# their code points.
_LISTED = 0x20000
_IDEOGRAPHIC_PLANES = (0x20000, 0x40000)
_SELECTORS_AND_TAGS = (0xE0000, 0xE1000)
_VARIATION_SELECTORS = (0xFE00, 0xFE10)
_ZERO_WIDTH_SPACE = 0x200B
_CJK_BLOCKS = (
    (0x2E80, 0x2FE0),  # radicals
    (0x3005, 0x3008),  # iteration mark, number zero
    (0x3021, 0x3030),  # Hangzhou numerals
    (0x3031, 0x3130),  # Kana, Bopomofo
    (0x31A0, 0x3200),  # Bopomofo and Kana extensions
    (0x3400, 0x4DC0),  # Han extension A
    (0x4E00, 0xA000),  # Han
    (0xF900, 0xFB00),  # Han compatibility
    (0x16FE0, 0x18D00),  # Tangut, Khitan
    (0x1AFF0, 0x1B300),  # Kana supplements, Nüshu
)


def _part(code_point: int) -> int:
    category = unicodedata.category(chr(code_point))
    if category == "Cf":
        return BREAK if code_point == _ZERO_WIDTH_SPACE else IGNORED
    return _PART_OF_CATEGORY.get(category[0], BREAK)


@functools.cache
def table() -> NDArray[np.uint8]:
    """The part of every code point, (0x110000,) uint8; built at the first call, in some 30 ms."""
    parts = np.full(0x110000, BREAK, np.uint8)
    parts[:_LISTED] = [_part(code_point) for code_point in range(_LISTED)]
    for start, stop in _CJK_BLOCKS:
        block = parts[start:stop]
        block[block == WORD] = CJK
    parts[slice(*_IDEOGRAPHIC_PLANES)] = CJK
    parts[slice(*_VARIATION_SELECTORS)] = IGNORED
    parts[slice(*_SELECTORS_AND_TAGS)] = IGNORED
    parts.setflags(write=False)
    return parts
