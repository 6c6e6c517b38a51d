"""What a teacher says of a catalogue and its queries: texts and their vectors, made once.

Taught are the titles, to the item tower, and to the query tower the log's queries, the single words of both, and short
spans of titles, which stand for queries that nobody typed yet.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn

from twinspire.features.title_log import pseudo_query
from twinspire.progress import Progress
from twinspire.text import normalise, normalise_column
from twinspire.text.words import words

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from twinspire.teacher.kept import KeptVectors

MOST_TITLES, MOST_QUERIES, MOST_WORDS, SPANS = 200_000, 100_000, 30_000, 40_000
SPANS_A_TITLE = 4


@dataclass(frozen=True)
class Lessons:
    """Texts for the query tower with vectors (T, D), catalogue rows for the item tower with vectors (M, D); length 1.

    The first `words` texts are single words, the frequent ones first.
    """

    texts: pl.Series
    text_vectors: NDArray[np.float32]
    items: NDArray[np.int64]
    item_vectors: NDArray[np.float32]
    words: int


def ask_teacher(encoder: Any, kept: KeptVectors, titles: pl.Series, queries: pl.Series, dim: int, seed: int) -> Lessons:
    """Let `encoder` (see `load_encoder`) embed titles (n,) and distinct queries, most frequent first; shows progress.

    What is in `kept` is not asked again.
    Its vectors are centred, titles and texts each by their own mean (Mu and Viswanath 2018), and cut to `dim` by the
    principal directions of the titles, or filled up with zeros.
    """
    rng = np.random.default_rng(seed)
    items = np.sort(rng.permutation(len(titles))[:MOST_TITLES])
    shown = titles.fill_null("").gather(items)
    singles, texts = _texts(shown, queries.head(MOST_QUERIES), rng)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("ask the teacher", total=len(texts) + len(shown))
        advance = partial(progress.advance, task)
        # Texts of one length side by side need no padding.
        order: NDArray[np.int64] = np.argsort([len(text) for text in texts], kind="stable")
        said = kept.encode(encoder, [texts[place] for place in order], documents=False, advance=advance)
        text_vectors = np.empty_like(said)
        text_vectors[order] = said
        item_vectors = kept.encode(encoder, shown.to_list(), documents=True, advance=advance)
    # What all titles have in common, and all queries, says nothing, but makes everything alike.
    text_vectors -= text_vectors.mean(0)
    item_vectors -= item_vectors.mean(0)
    directions = principal_directions(item_vectors, dim)
    return Lessons(
        pl.Series("text", texts, dtype=pl.String),
        _unit(text_vectors @ directions),
        items,
        _unit(item_vectors @ directions),
        singles,
    )


def principal_directions(vectors: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """The `dim` directions (E, dim) in which vectors (M, E) are longest, as they are; zeros where E is less."""
    _, directions = np.linalg.eigh(vectors.T.astype(np.float64) @ vectors)
    kept = directions[:, ::-1][:, :dim]
    return np.pad(kept, ((0, 0), (0, dim - kept.shape[1]))).astype(np.float32)


def fingerprint(folder: Path) -> str:
    """sha256 in hex of a teacher's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _texts(titles: pl.Series, queries: pl.Series, rng: np.random.Generator) -> tuple[int, list[str]]:
    """The number of single words, and all texts: these first, then queries and spans of titles, each once."""
    normal = normalise_column(titles).to_list()
    asked = normalise_column(queries).to_list()
    counted = pl.Series(
        "word", [word for text in (*normal, *asked) for word in dict.fromkeys(words(text))], dtype=pl.String
    )
    often = counted.value_counts().filter(pl.col("count") >= 2).sort("count", "word", descending=[True, False])
    frequent = often["word"].head(MOST_WORDS).to_list()
    order = rng.permutation(np.tile(np.arange(len(normal)), SPANS_A_TITLE))[:SPANS]
    spans = [pseudo_query(normal[place], rng) for place in order.tolist()]
    texts = dict.fromkeys([*frequent, *(normalise(text) for text in asked), *spans])
    texts.pop("", None)
    return len(frequent), list(texts)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    unit: NDArray[np.float32] = (vectors / lengths).astype(np.float32)
    return unit
