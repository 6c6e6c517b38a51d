"""How much words, memory and trend weigh beside the vectors: measured on the validation window, unseen by the model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from twinspire.features.log import age_in_days
from twinspire.index.hybrid import Asked, Fusion, share_of
from twinspire.index.memory import QueryMemory
from twinspire.index.trend import trends
from twinspire.model import best_head, to_bags
from twinspire.training.validation import candidate_rows, item_vectors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import polars as pl
    from numpy.typing import NDArray

    from twinspire.features.encode import Encoded
    from twinspire.features.log import Positives
    from twinspire.index.lexical import LexicalIndex
    from twinspire.model import TwoTower

LEXICAL_GRID = (0.0, 0.05, 0.1, 0.2, 0.3, 0.45, 0.7, 1.0)
MEMORY_GRID = (0.05, 0.1, 0.2, 0.4, 0.8)
HALF_LIVES = (3.0, 7.0, 14.0, 30.0)
TREND_GRID = (0.02, 0.05, 0.1, 0.2)
TREND_DAYS = (1.0, 2.0, 4.0)
MOST_ITEMS = 20_000
MOST_SCORES = 40_000_000
LEAST_CASES = 100  # fewer choose nothing
SLACK = 0.5  # standard errors behind the best that a smaller weight may be: of equals, the smallest


Weight = Annotated[float, Field(ge=0, le=100)]
Days = Annotated[float, Field(gt=0, le=36_500)]


class RetrievalConfig(BaseModel):
    """What counts beside the vectors when items are ranked. `auto` is measured where the log is long enough."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lexical: Literal["auto"] | Weight = Field("auto", description="weight of the words in common; 0: vectors alone")
    lexical_default: float = Field(0.7, ge=0, description="auto where nothing can be measured")
    lexical_taught: float = Field(0.05, ge=0, description="the same, of a model that had a teacher")
    memory: Literal["auto"] | Weight = Field("auto", description="weight of earlier clicks for the same query; 0: none")
    half_life_days: Literal["auto"] | Days = Field("auto", description="a remembered click this old weighs half")
    trend: Literal["auto"] | Weight = Field("auto", description="weight of an item's clicks of late; 0: none")
    trend_days: Literal["auto"] | Days = Field("auto", description="of late: a click this old counts half")
    candidates: int = Field(100, ge=1, le=10_000, description="items beyond K that each part proposes")


class _Cases(NamedTuple):
    """Validation positives (C,) over the same N items: inner products and coverage (C, N), each one's own column."""

    products: NDArray[np.float32]
    coverage: NDArray[np.float32]
    own: NDArray[np.int64]
    query: NDArray[np.int32]
    rows: NDArray[np.int64]  # (N,) of the catalogue
    unseen: NDArray[np.bool_]


def measure_fusion(
    searched: TwoTower | None,
    encoded: Encoded,
    positives: Positives,
    lexical: LexicalIndex,
    config: RetrievalConfig,
    *,
    taught: bool,
) -> Fusion:
    """Choose the weights by mean reciprocal rank on the validation window.

    `searched` has not seen the window; None where there is no such model. `taught`: it had a teacher. Words are
    weighed on queries that training has not seen, where there are enough: of known queries the towers know what was
    clicked. Memory and then trend must gain more than one standard error.
    """
    keys = ("lexical", "memory", "half_life_days", "trend", "trend_days")
    known = {key: value for key in keys if (value := getattr(config, key)) != "auto"}
    without = config.lexical_taught if taught else config.lexical_default
    default = Fusion(lexical=without, candidates=config.candidates, measured="nothing").model_copy(update=known)
    decided = "auto" not in (config.lexical, config.memory, config.trend)
    if searched is None or encoded.meta.titles or decided or encoded.meta.validation < LEAST_CASES:
        return default
    cases = _cases(searched, encoded, positives, lexical)
    weight, said = _lexical_weight(cases, config)
    base = cases.products + np.float32(weight) * cases.coverage
    upto = slice(encoded.meta.training)
    item, age = positives.item[upto], age_in_days(positives.time[upto])
    shares = partial(_shares, cases, positives.queries, positives.query[upto], item, age)
    half_lives = HALF_LIVES if config.half_life_days == "auto" else (float(config.half_life_days),)
    memory, half_life = _sure_gain(base, cases, config.memory, MEMORY_GRID, half_lives, shares)
    if memory:
        base += np.float32(memory) * shares(half_life)
    all_days = TREND_DAYS if config.trend_days == "auto" else (float(config.trend_days),)
    trend, trend_days = _sure_gain(
        base,
        cases,
        config.trend,
        TREND_GRID,
        all_days,
        lambda days: trends(item, age, encoded.store.n_items, days)[cases.rows],
    )
    return Fusion(
        lexical=weight,
        memory=memory,
        half_life_days=half_life,
        trend=trend,
        trend_days=trend_days,
        candidates=config.candidates,
        measured=f"{len(cases.own)} validation positives, {said}",
    )


def _lexical_weight(cases: _Cases, config: RetrievalConfig) -> tuple[float, str]:
    if config.lexical != "auto":
        return float(config.lexical), "as configured"
    enough = int(cases.unseen.sum()) >= LEAST_CASES
    chosen = cases.unseen if enough else np.ones(len(cases.own), bool)
    products, coverage, own = cases.products[chosen], cases.coverage[chosen], cases.own[chosen]
    found = np.stack([_reciprocal(products + np.float32(weight) * coverage, own) for weight in LEXICAL_GRID])
    best = found[found.mean(1).argmax()]
    behind = best - found  # (weights, C)
    near = behind.mean(1) <= SLACK * behind.std(1) / np.sqrt(len(own))
    return LEXICAL_GRID[int(near.argmax())], f"words by {len(own)} of {'new' if enough else 'all'} queries"


def _sure_gain(
    base: NDArray[np.float32],
    cases: _Cases,
    weight: float | Literal["auto"],
    grid: Sequence[float],
    days: Sequence[float],
    part: Callable[[float], NDArray[np.float32]],
) -> tuple[float, float]:
    """The weight and the half-life with which a part of the score, (C, N) or (N,) by half-life, gains beside the scores
    `base` (C, N): unless the weight is given, by more than one standard error, and of those that gain nearly the most
    the smallest weight."""
    plain = _reciprocal(base, cases.own)
    weights = grid if weight == "auto" else (float(weight),)
    tried = [(each, half_life) for half_life in days for each in weights]
    added = {half_life: part(half_life) for half_life in days}
    gains = np.stack([_reciprocal(base + np.float32(w) * added[h], cases.own) - plain for w, h in tried])
    means, cases_root = gains.mean(1), np.sqrt(len(plain))
    behind = gains[means.argmax()] - gains
    good = behind.mean(1) <= SLACK * behind.std(1) / cases_root
    if weight == "auto":
        good &= means > gains.std(1) / cases_root
    if not good.any():
        return 0.0, days[0]
    return tried[min(np.flatnonzero(good), key=lambda at: (tried[at][0], -means[at]))]


def _shares(
    cases: _Cases,
    queries: pl.Series,
    query: NDArray[np.integer],
    item: NDArray[np.integer],
    age: NDArray[np.floating],
    half_life: float,
) -> NDArray[np.float32]:
    """What a memory of these clicks (see `QueryMemory.build`) says of the cases, (C, N)."""
    memory = QueryMemory.build(queries, query, item, age, half_life)
    shares = np.zeros(cases.products.shape, np.float32)
    nothing = np.zeros((0, 0), np.float32)
    for one in np.unique(cases.query):
        asked = Asked(nothing, [], *memory.of(queries[int(one)]))
        if len(asked.items):
            shares[cases.query == one] = share_of(asked, cases.rows)
    return shares


def _cases(searched: TwoTower, encoded: Encoded, positives: Positives, lexical: LexicalIndex) -> _Cases:
    store, window = encoded.store, encoded.validation
    count = min(MOST_SCORES // min(store.n_items, MOST_ITEMS), len(window))
    window = window.sample(count, seed=0, shuffle=True)
    rows = candidate_rows(store.n_items, window["item"].to_numpy(), 0, MOST_ITEMS)
    items = item_vectors(searched, store, rows)
    columns = (window[name].to_numpy() for name in ("query", "user", "stop"))
    products = best_head(searched.queries(to_bags(store.query_features(*columns))).detach(), items).numpy()
    query = window["query"].to_numpy()
    coverage = np.empty_like(products)
    for one in np.unique(query):
        coverage[query == one] = lexical.coverage(lexical.query(positives.queries[int(one)]), rows)
    seen = np.unique(positives.query[: encoded.meta.training])
    own = np.searchsorted(rows, window["item"].to_numpy())
    return _Cases(products, coverage, own, query, rows, ~np.isin(query, seen))


def _reciprocal(scores: NDArray[np.float32], own: NDArray[np.int64]) -> NDArray[np.float64]:
    """1 / rank of each case's own item among scores (C, N), (C,); half of the equals stand before it."""
    mine = np.take_along_axis(scores, own[:, None], 1)
    above, equal = (scores > mine).sum(1), (scores == mine).sum(1) - 1
    rank: NDArray[np.float64] = 1 + above + equal / 2
    return 1 / rank


def clicked_memory(positives: Positives, half_life_days: float) -> QueryMemory:
    """The memory of a whole log."""
    age = age_in_days(positives.time)
    return QueryMemory.build(positives.queries, positives.query, positives.item, age, half_life_days)


def clicked_trends(positives: Positives, items: int, half_life_days: float) -> NDArray[np.float32]:
    """The items' trends at the end of a whole log, (n,)."""
    return trends(positives.item, age_in_days(positives.time), items, half_life_days)
