"""What a caller asks: a query text and, where known, who asks it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that a shopper did with one catalogue item: a click, cart or purchase; others are ignored."""

    item_id: str
    event: str = "click"
    timestamp: datetime | None = None


@dataclass(frozen=True, slots=True)
class Shopper:
    """Who asks. What is given here comes before what the bundle remembers of `user_id`.

    `profile` maps columns of the users table to values; `history` is oldest first, sorted by timestamp if all have one.
    If not, an event counts as at least as old as the one after it, and one without a timestamp as just as old.
    Unknown user ids, profile values and item ids are ignored: a new shopper is still answered.
    """

    user_id: str | None = None
    profile: Mapping[str, str | float | None] | None = None
    history: Sequence[Event] | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A query text as typed, the shopper who typed it (None: answer without personalisation), and which items may be
    found: by column a value, a list of values, or `min` and `max` (None: all)."""

    text: str
    shopper: Shopper | None = None
    filters: Mapping[str, Any] | None = None
