"""Speed of tokeniser and vocabulary, in CPU time of one core: `python benchmarks/text.py [items.parquet]`.

Without a catalogue, titles are made of random letters, some of them with accents, some in Han.
"""

from __future__ import annotations

import functools
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks import report
from twinspire.text import Tokeniser, Vocabulary, normalise

if TYPE_CHECKING:
    from collections.abc import Callable

N_TITLES = 200_000
QUERIES = ["xbox 360 controller", "Apple iPhone 15 Pro Max case", "café crème à la carte", "红色 手机壳"]


def made_up_titles(n: int, seed: int = 0) -> pl.Series:
    generator = np.random.default_rng(seed)
    letters = [
        list("abcdefghijklmnopqrstuvwxyz      "),
        list("aàeéèêëioöuüçß      "),
        list("手机壳红色苹果 "),
    ]
    titles = []
    for script, length in zip(generator.choice(3, n, p=[0.9, 0.05, 0.05]), generator.integers(20, 90, n), strict=True):
        titles.append("".join(generator.choice(letters[script], length)))
    return pl.Series(titles)


def cpu_seconds(work: Callable[[], object], least: float = 1.0) -> float:
    """CPU seconds of one call, the mean of as many calls as fill `least` seconds."""
    work()
    calls, start = 0, time.process_time()
    while time.process_time() - start < least:
        work()
        calls += 1
    return (time.process_time() - start) / calls


def main() -> None:
    given = sys.argv[1:]
    titles = pl.read_parquet(given[0], columns=["title"])["title"] if given else made_up_titles(N_TITLES)
    tokeniser = Tokeniser()
    tokens = tokeniser.encode(titles)
    vocabulary = Vocabulary.fit([tokens.words, tokens.grams], hash_bits=tokeniser.config.hash_bits, min_count=2)
    figures: dict[str, float | int] = {
        "titles": len(titles),
        "characters a title": round(float(np.mean(titles.str.len_chars().to_numpy())), 1),
        "tokens a title": round(len(tokens.words.values) / len(titles), 1),
        "trigrams a title": round(len(tokens.grams.values) / len(titles), 1),
        "titles a second and core": round(len(titles) / cpu_seconds(lambda: tokeniser.encode(titles))),
        "vocabulary rows": vocabulary.size,
        "vocabulary lookups a second and core": round(
            len(tokens.words.values) / cpu_seconds(lambda: vocabulary.apply(tokens.words))
        ),
    }
    for query in QUERIES:
        figures[f"microseconds to encode {query!r}"] = round(
            1e6 * cpu_seconds(functools.partial(tokeniser.encode_one, query)),
            2,
        )
        figures[f"microseconds to normalise {query!r}"] = round(
            1e6 * cpu_seconds(functools.partial(normalise, query), 0.3),
            2,
        )
    megabyte = "red shoe " * 120_000
    figures["microseconds to encode a query of 1 MB"] = round(
        1e6 * cpu_seconds(lambda: tokeniser.encode_one(megabyte), 0.3), 2
    )
    table = Table("figure", "value", title="Text")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}")
    Console().print(table)
    Console().print(f"written to {report.write('text', figures)}")


if __name__ == "__main__":
    main()
