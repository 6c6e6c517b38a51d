"""The one tokeniser of training, indexing and serving (paper, 5.1.1): text to hash rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from twinspire.ragged import Ragged
from twinspire.text import classes, kernel
from twinspire.text.normalise import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = "1"
_TEXTS_A_BLOCK = 8192
_PROBE = [
    "Apple iPhone 15 Pro-Max 256GB, 6.1\u2033 (A2848)",
    "ÉCLAIR straße ｆｕｌｌ ﬁne №5 ½ K",
    "红色 手机壳 iPhone手机",
    "カメラ かばん ｶﾒﾗ ㍿",
    "갤럭시 스마트폰",
    "हिन्दी किताब تلفن\u200cهمراه รองเท้า",
    "e\u0301 ❤\ufe0f 👩\u200d🚀 𠮷野家 \ud800 \x00",
]


class TokeniserConfig(BaseModel):
    """What decides the ids beside the version. Both towers, the index and the server must share it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hash_bits: int = Field(default=22, ge=8, le=30, description="Ids lie in [0, 2**hash_bits).")
    max_characters: int = Field(
        default=2048, ge=1, le=65_536, description="A text is read up to this many characters, no further."
    )


@dataclass(frozen=True, slots=True)
class Tokens:
    """Hash rows of N texts: int32 values in [0, 2**hash_bits), in the order of the text, repeats kept.

    `words` holds words and pairs of neighbouring words, for CJK characters and pairs of characters; a text
    of t tokens has 2 t - 1 of them. `grams` holds the character trigrams of `#word#`, for words of
    alphabetic scripts and numbers.
    """

    words: Ragged
    grams: Ragged

    def __len__(self) -> int:
        return len(self.words)


class Tokeniser:
    """Text to hash rows. Stateless but for its config: safe to share between threads."""

    version = VERSION

    def __init__(self, config: TokeniserConfig | None = None) -> None:
        self.config = config or TokeniserConfig()
        self._mask = np.uint64((1 << self.config.hash_bits) - 1)
        self._parts = classes.table()

    def encode(self, texts: Sequence[str] | pl.Series) -> Tokens:
        """Ids of N texts, a null as an empty text; the same as `encode_one` gives for each."""
        blocks = [
            self._encode_joined(self._join(texts[start : start + _TEXTS_A_BLOCK]))
            for start in range(0, max(len(texts), 1), _TEXTS_A_BLOCK)
        ]
        if len(blocks) == 1:
            return blocks[0]
        return Tokens(_concatenate([b.words for b in blocks]), _concatenate([b.grams for b in blocks]))

    def encode_one(self, text: str) -> Tokens:
        """Ids of one text, as Ragged arrays of one row. Some microseconds for a query."""
        return self._encode_joined(text[: self.config.max_characters].replace("\n", " ") + "\n", 1)

    @property
    def fingerprint(self) -> str:
        """sha256 in hex of the version, the config and the ids of a fixed probe in many scripts.

        The probe is there to catch what the version cannot: a platform or a Unicode table that changes ids.
        (Code points that a newer Python's Unicode tables add are not in it.)
        """
        tokens = self.encode(_PROBE)
        digest = hashlib.sha256(f"{self.version}\n{self.config.model_dump_json()}\n".encode())
        for bag in (tokens.words, tokens.grams):
            digest.update(bag.offsets.astype("<i8").tobytes())
            digest.update(bag.values.astype("<i4").tobytes())
        return digest.hexdigest()

    def _join(self, texts: Sequence[str] | pl.Series) -> str:
        """The texts cut to length and free of line feeds, each followed by one."""
        limit = self.config.max_characters
        if isinstance(texts, pl.Series):
            texts = texts.fill_null("").to_list()
        if len(texts) and max(map(len, texts)) > limit:
            texts = [text[:limit] for text in texts]
        joined = "\n".join(texts)
        if joined.count("\n") >= max(len(texts), 1):
            joined = "\n".join([text.replace("\n", " ") for text in texts])
        return joined + "\n" if len(texts) else joined

    def _encode_joined(self, joined: str, n_texts: int | None = None) -> Tokens:
        n_texts = joined.count("\n") if n_texts is None else n_texts
        code_points = np.frombuffer(fold(joined).encode("utf-32-le", "surrogatepass"), np.uint32)
        words = np.empty(2 * len(code_points), np.int32)
        grams = np.empty(len(code_points), np.int32)
        word_offsets = np.empty(n_texts + 1, np.int64)
        gram_offsets = np.empty(n_texts + 1, np.int64)
        kernel.tokenise(code_points, self._parts, self._mask, words, grams, word_offsets, gram_offsets)
        return Tokens(
            Ragged(words[: word_offsets[-1]].copy(), word_offsets),
            Ragged(grams[: gram_offsets[-1]].copy(), gram_offsets),
        )


def _concatenate(bags: list[Ragged]) -> Ragged:
    values = np.concatenate([bag.values for bag in bags])
    return Ragged.from_lengths(values, np.concatenate([bag.lengths for bag in bags]))
