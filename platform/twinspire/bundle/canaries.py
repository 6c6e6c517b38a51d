"""Queries whose answers the bundle itself holds: a copy that answers them otherwise must not serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from twinspire.bundle.bundle import frequent_queries
from twinspire.errors import BundleError
from twinspire.features.query import Query, Shopper

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinspire.bundle.bundle import Bundle

CANARIES = "canaries.json"
K = 10
MOST = 32
TOLERANCE = 1e-3  # another processor adds in another order: scores differ in the last digits
ALIKE = (
    0.7  # share of the items that must be found again; an index may be searched a little otherwise by a newer version
)


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
    texts = [*frequent_queries(folder).head(MOST // 2), *bundle.items["title"].head(MOST // 4)]
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
    found = _answers(bundle, [one.asked() for one in canaries])
    for canary, (items, _) in zip(canaries, found, strict=True):
        again = sum(item in canary.items for item in items) / max(len(canary.items), 1)
        if again < ALIKE and canary.items:
            _refuse(bundle, canary, f"finds {items[:3]}", f"found {canary.items[:3]}")
        rows = np.array([bundle.item_rows.get(item, -1) for item in canary.items])
        if len(rows) and rows.min() < 0:
            _refuse(bundle, canary, f"knows no item {canary.items[int(rows.argmin())]!r}", "found it")
        scores = bundle.score([canary.asked()] * len(rows), rows)
        if not np.allclose(scores, canary.scores, rtol=0, atol=TOLERANCE):
            told = f"scores {canary.items[:3]} with {_short(scores.tolist())}"
            _refuse(bundle, canary, told, f"gave {_short(canary.scores)}")
    return len(canaries)


def _refuse(bundle: Bundle, canary: Canary, now: str, then: str) -> NoReturn:
    raise BundleError(
        f"{bundle.folder}: of the query {canary.query!r} it {now}; when it was written it {then}; "
        "copy the bundle again or fit again"
    )


def _answers(bundle: Bundle, queries: Sequence[Query]) -> list[tuple[list[str], list[float]]]:
    if not queries:
        return []
    found = bundle.search(queries, K)
    answers = []
    for rows, scores in zip(found.items, found.scores, strict=True):
        kept = rows >= 0
        answers.append(([bundle.item_ids[row] for row in rows[kept]], [round(float(s), 6) for s in scores[kept]]))
    return answers


def _short(scores: list[float]) -> list[float]:
    return [round(score, 3) for score in scores[:3]]
