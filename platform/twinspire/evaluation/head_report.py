"""For chosen queries: which head finds what, side by side."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field
from rich import box
from rich.table import Table

from twinspire.evaluation.heads import HeadMeasures, best_by_any_head, measure_heads, top

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import polars as pl
    from numpy.typing import NDArray

LABELS_SHOWN = 4


class FoundItem(BaseModel):
    """One item of a head's own K best."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    item_id: str
    title: str
    label: str | None = Field(description="the item's category, or whichever column was asked for")
    score: float
    rank: int | None = Field(description="place among the final results where this head brought it there")


class HeadAnswer(BaseModel):
    """What one head finds by itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: int = Field(description="from 1")
    brought: int = Field(description="how many of the K final results this head brings")
    labels: dict[str, int] = Field(description="how many of its own K best each category holds, most first")
    items: tuple[FoundItem, ...]


class QueryHeads(BaseModel):
    """One query, head by head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str
    measures: HeadMeasures
    final: dict[str, int] = Field(description="how many of the K final results each category holds, most first")
    heads: tuple[HeadAnswer, ...]


class HeadReport(BaseModel):
    """`queries` are those asked for; `overall` is measured on the bundle's most frequent training queries."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str
    k: int
    overall: HeadMeasures | None
    queries: tuple[QueryHeads, ...]


def query_heads(
    query: str, heads: NDArray[np.float32], vectors: NDArray[np.float32], items: pl.DataFrame, labels: pl.Series, k: int
) -> QueryHeads:
    """One query's heads (H, D) against the catalogue's vectors (n, D); `items` has `item_id` and `title`, `labels` is
    (n,), null where unknown."""
    products = heads[None] @ vectors.T  # (1, H, n)
    k = min(k, len(vectors))
    final, brought = (rows[0] for rows in best_by_any_head(products, k))
    rank = {(int(row), int(head)): place for place, (row, head) in enumerate(zip(final, brought, strict=True), 1)}
    answers = []
    for head, own in enumerate(top(products, k)[0]):
        found = tuple(
            FoundItem(
                item_id=items["item_id"][row],
                title=items["title"][row] or "",
                label=labels[row],
                score=float(products[0, head, row]),
                rank=rank.get((row, head)),
            )
            for row in own.tolist()
        )
        answers.append(
            HeadAnswer(head=head + 1, brought=int((brought == head).sum()), labels=_count(labels, own), items=found)
        )
    return QueryHeads(
        query=query,
        measures=measure_heads(heads[None], vectors, k),
        final=_count(labels, final),
        heads=tuple(answers),
    )


def _count(labels: pl.Series, rows: NDArray[np.int64]) -> dict[str, int]:
    """How often each label occurs among these rows, most first."""
    known = (label for label in labels.gather(rows).to_list() if label is not None)
    return dict(Counter(known).most_common())


def tables(report: HeadReport) -> list[Table | str]:
    """The report for a terminal: one line on all queries, then a table a query with a column a head."""
    shown: list[Table | str] = [] if report.overall is None else [_summary(report.overall)]
    return shown + [_table(entry, report.k) for entry in report.queries]


def _summary(measures: HeadMeasures) -> str:
    if measures.heads == 1:
        return "The bundle has one head, which finds everything; fit with --set model.heads=2 for more."
    shares = ", ".join(f"head {head} {share:.0%}" for head, share in enumerate(measures.share, 1))
    return (
        f"{measures.queries:,} most frequent queries, {measures.k} best items: {shares} of the results; one head alone "
        f"brings all of them for {measures.alone:.0%} of the queries. Cosine between heads {measures.cosine:.2f}; "
        f"{measures.overlap:.0%} of a head's own items are another's too."
    )


def _table(entry: QueryHeads, k: int) -> Table:
    title = f"{entry.query}: final results are {_labels(entry.final) or f'{k} items'}"
    if len(entry.heads) > 1:
        title += f"; cosine {entry.measures.cosine:.2f}, in common {entry.measures.overlap:.0%}"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    for answer in entry.heads:
        header = f"head {answer.head}: brings {answer.brought} of {k}"
        labels = _labels(answer.labels)
        table.add_column(f"{header}\n{labels}" if labels else header, no_wrap=True, overflow="ellipsis", ratio=1)
    for row in zip(*(answer.items for answer in entry.heads), strict=True):
        table.add_row(*(f"{'·' if item.rank is None else item.rank:>3}  {item.title}" for item in row))
    return table


def _labels(labels: dict[str, int]) -> str:
    shown: Sequence[tuple[str, int]] = list(labels.items())[:LABELS_SHOWN]
    more = len(labels) - len(shown)
    return ", ".join(f"{label} {count}" for label, count in shown) + (f", {more} more" if more > 0 else "")
