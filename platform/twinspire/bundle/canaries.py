"""Queries whose answers the bundle itself holds: a copy that answers them otherwise must not serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from twinspire.errors import BundleError
from twinspire.features.query import Query, Shopper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinspire.bundle.bundle import Bundle

CANARIES = "canaries.json"
K = 10
MOST = 32
# Another processor adds in another order: scores differ in the last digits, and items that are alike change places.
TOLERANCE = 1e-3


class Canary(BaseModel):
    """A query, for a remembered shopper or for nobody, its K best items and their scores."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    query: str
    user_id: str | None = None
    items: list[str]
    scores: list[float]

    def asked(self) -> Query:
        """As the bundle takes it."""
        return Query(self.query, Shopper(self.user_id) if self.user_id else None)


_LIST = TypeAdapter(list[Canary])


def write_canaries(bundle: Bundle, folder: Path) -> None:
    """Ask the bundle its most frequent queries, and titles where there are few, and write down what it answers."""
    frequent = pl.read_parquet(folder / "queries.parquet").sort("clicks", "query", descending=[True, False])
    texts = [*frequent["query"].head(MOST // 2), *bundle.items["title"].head(MOST // 4)]
    queries = [Query(text) for text in texts]
    queries += [
        Query(text, Shopper(shopper.user_id))
        for text, shopper in zip(texts, bundle.shoppers(MOST - len(texts)), strict=False)
    ]
    found = [
        Canary(query=query.text, user_id=query.shopper.user_id if query.shopper else None, items=items, scores=scores)
        for query, (items, scores) in zip(queries, _answers(bundle, queries), strict=True)
    ]
    (folder / CANARIES).write_bytes(_LIST.dump_json(found))


def check_canaries(bundle: Bundle) -> int:
    """Ask the canary queries of the bundle; gives their number, 0 for a bundle of before there were any.

    Errors: BundleError that names the query that was answered otherwise than when the bundle was written.
    """
    path = Path(bundle.folder) / CANARIES
    if not path.is_file():
        return 0
    try:
        canaries = _LIST.validate_json(path.read_bytes())
    except ValidationError as error:
        raise BundleError(f"{path}: {error.errors()[0]['msg']}; fit again") from None
    for canary, (items, scores) in zip(canaries, _answers(bundle, [one.asked() for one in canaries]), strict=True):
        if not _alike(canary, items, scores):
            raise BundleError(
                f"{bundle.folder}: the query {canary.query!r} finds {items[:3]} with {_short(scores)}, when the bundle "
                f"was written it found {canary.items[:3]} with {_short(canary.scores)}; copy it again or fit again"
            )
    return len(canaries)


def _answers(bundle: Bundle, queries: Sequence[Query]) -> list[tuple[list[str], list[float]]]:
    if not queries:
        return []
    found = bundle.search(queries, K)
    answers = []
    for rows, scores in zip(found.items, found.scores, strict=True):
        kept = rows >= 0
        answers.append(([bundle.item_ids[row] for row in rows[kept]], [round(float(s), 6) for s in scores[kept]]))
    return answers


def _alike(canary: Canary, items: list[str], scores: list[float]) -> bool:
    """The same scores; and each item that is not among those of before scores as the least of them."""
    if len(scores) != len(canary.scores):
        return False
    if any(abs(ours - theirs) > TOLERANCE for ours, theirs in zip(scores, canary.scores, strict=True)):
        return False
    new = [score for item, score in zip(items, scores, strict=True) if item not in canary.items]
    return all(score - canary.scores[-1] <= TOLERANCE for score in new)


def _short(scores: list[float]) -> list[float]:
    return [round(score, 3) for score in scores[:3]]
