"""What stands beside a result on request: titles, prices, the head that found it, what was understood."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from twinspire.features.history import KINDS
from twinspire.text import normalise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from serving.versions import Retriever
    from twinspire.features.query import Query, Shopper

SHOWN = ("title", "brand", "category", "price")


def explain(
    bundle: Retriever,
    query: Query,
    rows: NDArray[np.int32],
    scores: NDArray[np.float32],
    heads: NDArray[np.int8],
) -> tuple[bytes, bytes]:
    """The inside of the items array with catalogue columns, and the `understood` object, as JSON.

    `rows`, `scores` and `heads` are (k,), rows -1 where short.
    """
    found = rows >= 0
    table = bundle.items[rows[found]].select("item_id", *(column for column in SHOWN if column in bundle.items.columns))
    items = [
        {"item_id": item.pop("item_id"), "score": score, "head": head, **_present(item)}
        for item, score, head in zip(table.to_dicts(), scores[found].tolist(), heads[found].tolist(), strict=True)
    ]
    return orjson.dumps(items)[1:-1], orjson.dumps(_understood(bundle, query))


def plain(bundle: Retriever, shopper: Shopper) -> dict[str, Any]:
    """A shopper as JSON-ready values, the events of the history with their titles."""
    events = list(shopper.history or ())
    titles = _titles(bundle, [event.item_id for event in events])
    return {
        "user_id": shopper.user_id,
        "profile": _present(dict(shopper.profile or {})),
        "history": [
            {
                "item_id": event.item_id,
                "event": event.event,
                "timestamp": event.timestamp,
                "title": titles.get(event.item_id),
            }
            for event in events
        ],
    }


def _understood(bundle: Retriever, query: Query) -> dict[str, Any]:
    understood: dict[str, Any] = {"query": normalise(query.text)}
    if query.shopper is not None:
        shopper = query.shopper
        history = shopper.history or ()
        used = [event.item_id in bundle.item_rows and event.event in KINDS for event in history]
        understood |= {
            "user_id": shopper.user_id,
            "profile": dict(shopper.profile or {}),
            "history": [event.item_id for event, kept in zip(history, used, strict=True) if kept],
            "ignored_history": [event.item_id for event, kept in zip(history, used, strict=True) if not kept],
        }
    return understood


def _titles(bundle: Retriever, item_ids: list[str]) -> dict[str, str]:
    rows = {item_id: bundle.item_rows[item_id] for item_id in item_ids if item_id in bundle.item_rows}
    return dict(zip(rows, bundle.items["title"][list(rows.values())].to_list(), strict=True))


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value == value}
