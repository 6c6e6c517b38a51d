"""A sentence encoder from a local folder as a system under evaluation: cosine of query and title, nothing learnt."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import track

from twinspire.errors import EnvironmentProblem
from twinspire.evaluation.baselines import best_rows, distinct_queries
from twinspire.text import normalise

if TYPE_CHECKING:
    from pathlib import Path

    import polars as pl
    from numpy.typing import NDArray

    from twinspire.features.query import Query

_TITLES_AT_ONCE = 512
_PAIRS_AT_ONCE = 1 << 16
_SIMILARITIES = ("cosine", "dot")


def load_encoder(folder: Path, device: str | None = None) -> Any:
    """The encoder of a Hugging Face or sentence-transformers folder, on `device` (None: a GPU where there is one).

    Pooling, normalisation, prompts and the similarity are the folder's own; mean pooling and the cosine where it says
    nothing. Nothing is fetched, and no code of the folder's is run. Errors: EnvironmentProblem for a folder that is no
    encoder, or where the extra is not installed.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar
    except ImportError:
        raise EnvironmentProblem(
            "encoder: sentence-transformers is not installed; pip install 'twinspire[encoder]'"
        ) from None
    if not folder.is_dir():
        raise EnvironmentProblem(f"encoder {folder}: no such folder; give one with a config.json and its weights")
    disable_progress_bar()
    try:
        encoder = SentenceTransformer(str(folder), device=device, local_files_only=True)
        encoder.encode_query(["a query"], show_progress_bar=False)
    except Exception as error:  # whatever a damaged folder brings about in a foreign library
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise EnvironmentProblem(f"encoder {folder}: not a sentence encoder that can be read ({reason})") from None
    if encoder.similarity_fn_name not in _SIMILARITIES:
        known = " and ".join(_SIMILARITIES)
        raise EnvironmentProblem(f"encoder {folder}: similarity {encoder.similarity_fn_name!r}; {known} are known")
    return encoder


class EncoderSystem:
    """An encoder over one catalogue: its titles' vectors are made once, queries as they come."""

    name = "encoder"

    def __init__(self, encoder: Any, titles: pl.Series, *, show_progress: bool = False) -> None:
        """`encoder` is what `load_encoder` gave, `titles` (n_items,) the catalogue by row."""
        self._encoder = encoder
        texts = titles.fill_null("").to_list()
        starts = range(0, len(texts), _TITLES_AT_ONCE)
        parts = [
            self._vectors(encoder.encode_document, texts[start : start + _TITLES_AT_ONCE])
            for start in track(starts, "encoding titles", disable=not show_progress, transient=True)
        ]
        self._items = np.concatenate(parts)

    def scores(self, cases: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (B, n_items) of the cases' queries."""
        distinct, row = distinct_queries(cases["query"])
        table: NDArray[np.float32] = self._queries(distinct) @ self._items.T
        return table[row]

    def pair_scores(self, pairs: pl.DataFrame) -> NDArray[np.float32]:
        """Scores (P,) of pairs of `query` and `item` (row in the items table)."""
        distinct, row = distinct_queries(pairs["query"])
        queries, items = self._queries(distinct), pairs["item"].to_numpy()
        result = np.empty(len(pairs), np.float32)
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            result[part] = (queries[row[part]] * self._items[items[part]]).sum(axis=1)
        return result

    def best(self, query: Query, k: int) -> NDArray[np.integer]:
        """Rows of the `k` best items of one query, best first, by comparison with all of them."""
        return best_rows(self._items @ self._queries([normalise(query.text)])[0], k)

    def _queries(self, texts: list[str]) -> NDArray[np.float32]:
        return self._vectors(self._encoder.encode_query, texts)

    def _vectors(self, encode: Any, texts: list[str]) -> NDArray[np.float32]:
        cosine = self._encoder.similarity_fn_name == "cosine"
        return np.asarray(encode(texts, show_progress_bar=False, normalize_embeddings=cosine), np.float32)
