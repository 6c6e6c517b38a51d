"""The compiled walk over code points that cuts tokens and hashes them, some nanoseconds a character.

A text's word stream holds each token (a word, or one CJK character) and, from the second on, its pair with
the token before it. Pairs look through blanks and punctuation, so that a CJK query gives the same pairs
with and without blanks. Its gram stream holds the trigrams of `#word#`, for words only. Kinds are salted
apart: the word `ab`, the pair `a b` and the trigram `#ab` are three different things to hash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from twinspire.compiled import compiled
from twinspire.text.classes import BREAK, CJK, MARK, WORD

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINE_FEED = 10
_NONE = np.uint64(0)
_EDGE = np.uint64(ord("#"))

# Odd 64-bit constants without structure: the golden ratio's digits and the multipliers of splitmix64.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_WORD_SALT = np.uint64(0x243F6A8885A308D3)
_PAIR_SALT = np.uint64(0x13198A2E03707344)
_GRAM_SALT = np.uint64(0xA4093822299F31D0)

_S30, _S27, _S31, _S21 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(21)


@compiled(inline="always")
def _mix(value: Any) -> Any:
    """splitmix64's finaliser: every input bit moves every output bit."""
    value = (value ^ (value >> _S30)) * _MIX_1
    value = (value ^ (value >> _S27)) * _MIX_2
    return value ^ (value >> _S31)


@compiled(inline="always")
def _gram(first: Any, second: Any, third: Any, mask: Any) -> Any:
    # A code point has 21 bits: three fit into one 64-bit word, no two trigrams collide before the cut.
    packed = (first << _S21 << _S21) | (second << _S21) | third
    return np.int32(_mix(packed + _GRAM_SALT) & mask)


@compiled(inline="always")
def _emit(words: NDArray[np.int32], n_words: int, previous: Any, token: Any, mask: Any) -> int:
    """Write the token and, where there is a previous one, their pair; the new length of `words`."""
    words[n_words] = np.int32(_mix(token) & mask)
    if previous == _NONE:
        return n_words + 1
    words[n_words + 1] = np.int32(_mix(_mix(previous + _PAIR_SALT) ^ token) & mask)
    return n_words + 2


@compiled
def tokenise(
    code_points: NDArray[np.uint32],
    parts: NDArray[np.uint8],
    mask: np.uint64,
    words: NDArray[np.int32],
    grams: NDArray[np.int32],
    word_offsets: NDArray[np.int64],
    gram_offsets: NDArray[np.int64],
) -> None:
    """Fill `words`, `grams` and their offsets (N + 1,) for N folded texts, each of which ends in a line feed.

    For T `code_points`, `words` has room for 2 T values and `grams` for T, which no text exceeds.
    """
    n_words = n_grams = text = 0
    in_word = False
    before = last = token = previous = _NONE
    word_offsets[0] = gram_offsets[0] = 0
    for i in range(len(code_points)):
        code_point = np.uint64(code_points[i])
        part = parts[code_points[i]]
        if part == WORD or (part == MARK and in_word):
            if in_word:
                grams[n_grams] = _gram(before, last, code_point, mask)
                n_grams += 1
                before, last = last, code_point
            else:
                in_word, token, before, last = True, _WORD_SALT, _EDGE, code_point
            token = _mix(token ^ code_point) + _GOLDEN
        elif part in (BREAK, CJK):
            if in_word:
                grams[n_grams] = _gram(before, last, _EDGE, mask)
                n_grams += 1
                n_words = _emit(words, n_words, previous, token, mask)
                in_word, previous = False, token
            if part == CJK:
                token = _mix(_WORD_SALT ^ code_point) + _GOLDEN
                n_words = _emit(words, n_words, previous, token, mask)
                previous = token
            elif code_points[i] == LINE_FEED:
                text += 1
                word_offsets[text], gram_offsets[text] = n_words, n_grams
                previous = _NONE
