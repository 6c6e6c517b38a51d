"""What shoppers did, as rows of the log; and the searches that it follows, remembered for a while."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import orjson

from twinspire.errors import RequestError

if TYPE_CHECKING:
    from serving.schema import Feedback, Question

REMEMBERED = 20_000  # searches, at least


class Searched(NamedTuple):
    """Who searched for what."""

    query: str
    user: str | None
    session: str | None


NOTHING = Searched("", None, None)


class Recent:
    """The last searches by their request ids, REMEMBERED to twice as many."""

    def __init__(self) -> None:
        self._new: dict[str, Searched] = {}
        self._old: dict[str, Searched] = {}

    def add(self, request_id: str, asked: Question) -> None:
        """Remember a search."""
        user = asked.user
        self._new[request_id] = Searched(asked.query, user.user_id if user else None, user.session_id if user else None)
        if len(self._new) >= REMEMBERED:
            self._old, self._new = self._new, {}

    def get(self, request_id: str) -> Searched:
        """What was searched; NOTHING where it is not remembered."""
        return self._new.get(request_id) or self._old.get(request_id, NOTHING)


def outcome(told: Feedback, recent: Recent) -> tuple[str, bytes]:
    """The event's id, and its row of `interactions` as JSON.

    Errors: RequestError where its query is neither given nor remembered.
    """
    searched = recent.get(told.request_id) if told.request_id else NOTHING
    query = told.query or searched.query
    if not query:
        known = (
            "no request_id" if told.request_id is None else "this replica does not remember the search of request_id"
        )
        raise RequestError("query", f"give the query that was searched for: {known}")
    event_id = told.event_id or uuid4().hex
    moment = time.time_ns() // 1000 if told.timestamp is None else round(told.timestamp.timestamp() * 1e6)
    row = {
        "timestamp": moment,
        "query": query,
        "item_id": told.item_id,
        "user_id": told.user_id or searched.user,
        "session_id": told.session_id or searched.session,
        "event": told.event,
        "position": told.position,
        "event_id": event_id,
        "request_id": told.request_id,
        "value": told.value,
    }
    return event_id, orjson.dumps(row)
