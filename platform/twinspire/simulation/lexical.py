"""BM25 over title unigrams for the whole pool of queries at once: the ranking that the logging policy starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.compiled import compiled

if TYPE_CHECKING:
    from twinspire.simulation.arrays import Bools, Doubles, Floats, Ints, Longs

_K1, _B = 1.5, 0.4  # titles are short: their length says little
_STATIC = 0.25  # popularity's part of the rank, so that near ties go to what sells


@dataclass(frozen=True)
class Lexical:
    """The best items of each query, and the words of queries and titles."""

    items: Ints  # (Q, K) best first, -1 where fewer match
    scores: Floats  # (Q, K)
    query_words: Ints  # (Q, W) word rows, -1 padded
    title_words: Ints  # (N, T) word rows, -1 padded

    def shares_word(self, query_rows: Ints, item_rows: Ints) -> Bools:
        """Whether query and title of each pair (B,) have a word in common."""
        words, titles = self.query_words[query_rows], self.title_words[item_rows]
        same = (words[:, :, None] == titles[:, None, :]) & (words >= 0)[:, :, None]
        shared: Bools = same.any(axis=(1, 2))
        return shared


def _words(texts: pl.Series) -> pl.DataFrame:
    """(row, word), each word of a text once a time it stands there."""
    frame = pl.DataFrame({"row": pl.int_range(len(texts), dtype=pl.Int32, eager=True), "text": texts})
    words = frame.with_columns(pl.col("text").str.to_lowercase().str.extract_all(r"[a-z0-9]+").alias("word"))
    return words.select("row", "word").explode("word").drop_nulls()


def _padded(frame: pl.DataFrame, count: int) -> Ints:
    """Word rows of each text, side by side."""
    rows, words = frame["row"].to_numpy(), frame["code"].to_numpy()
    starts = np.searchsorted(rows, np.arange(count))
    place = np.arange(len(rows)) - starts[rows]
    table = np.full((count, int(place.max(initial=0)) + 1), -1, dtype=np.int32)
    table[rows, place] = words
    return table


@compiled(nogil=False)
def _rank(
    queries: Ints, offsets: Longs, postings: Ints, weights: Floats, static: Floats, depth: int
) -> tuple[Ints, Floats]:
    count = static.shape[0]
    scores = np.zeros(count, np.float32)
    touched = np.empty(count, np.int32)
    best_items = np.full((queries.shape[0], depth), -1, np.int32)
    best_scores = np.zeros((queries.shape[0], depth), np.float32)
    for query in range(queries.shape[0]):
        seen = 0
        for word in queries[query]:
            if word < 0:
                continue
            for at in range(offsets[word], offsets[word + 1]):
                item = postings[at]
                if scores[item] == 0.0:
                    touched[seen] = item
                    seen += 1
                scores[item] += weights[at]
        found = touched[:seen]
        ranks = np.empty(seen, np.float32)
        for place in range(seen):
            ranks[place] = scores[found[place]] + static[found[place]]
            scores[found[place]] = 0.0
        if seen > depth:  # keep the best `depth`, then order them; of those level at the cut, the first met
            cut = np.partition(ranks, seen - depth)[seen - depth]
            above = np.flatnonzero(ranks > cut)
            keep = np.sort(np.concatenate((above, np.flatnonzero(ranks == cut)[: depth - above.shape[0]])))
        else:
            keep = np.arange(seen)
        order = keep[np.argsort(-ranks[keep], kind="mergesort")]
        for place in range(order.shape[0]):
            best_items[query, place] = found[order[place]]
            best_scores[query, place] = ranks[order[place]]
    return best_items, best_scores


def rank_pool(titles: pl.Series, queries: pl.Series, popularity: Doubles, depth: int) -> Lexical:
    """Rank the catalogue for every query; O(sum of the posting lists of the queries' words)."""
    title_words, query_words = _words(titles), _words(queries)
    codes = title_words.select(pl.col("word").unique(maintain_order=True)).with_row_index("code")
    codes = codes.with_columns(pl.col("code").cast(pl.Int32))
    title_words = title_words.join(codes, on="word", maintain_order="left")
    query_words = query_words.join(codes, on="word", maintain_order="left")
    length = np.bincount(title_words["row"].to_numpy(), minlength=len(titles))
    counts = title_words.group_by("code", "row").len().sort("code", "row")
    code, row, frequency = (counts[name].to_numpy() for name in ("code", "row", "len"))
    documents = np.bincount(code, minlength=len(codes))
    idf = np.log1p((len(titles) - documents + 0.5) / (documents + 0.5))
    norm = _K1 * (1 - _B + _B * length[row] / length.mean())
    weights = idf[code] * frequency * (_K1 + 1) / (frequency + norm)
    offsets = np.concatenate([[0], np.cumsum(documents)]).astype(np.int64)
    static = _STATIC * np.log(popularity)
    query_table = _padded(query_words.drop_nulls("code"), len(queries))
    items, scores = _rank(query_table, offsets, row, weights.astype(np.float32), static.astype(np.float32), depth)
    return Lexical(items, scores, query_table, _padded(title_words, len(titles)))
