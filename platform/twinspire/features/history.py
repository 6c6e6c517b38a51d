"""Histories: what shoppers did, and the weighted bags that a tower sees of it.

An event weighs what its kind weighs, times two to the minus its age over the half-life; a bag's weights add up to 1.
So only differences of age count, and the age of the shopper's last event may be taken as 0: the query's own time
cancels. Training, evaluation and serving call the same function on the same arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from twinspire.compiled import compiled
from twinspire.features.spec import Kind
from twinspire.ragged import Ragged, load_array

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from twinspire.features.spec import History
    from twinspire.ragged import Ints

KINDS: tuple[Kind, ...] = get_args(Kind)  # what histories are made of; an event's kind is its place here
DAY = 86_400e6  # microseconds


@dataclass(frozen=True)
class Events:
    """What each of U users did, oldest first.

    `items` (E,) i32 rows, `kinds` (E,) i8 places in KINDS, `times` (E,) i64 microseconds since 1970 (UTC),
    `offsets` (U + 1,).
    """

    items: NDArray[np.int32]
    kinds: NDArray[np.int8]
    times: NDArray[np.int64]
    offsets: NDArray[np.int64]

    def rows(self, chosen: Ints, lengths: Ints) -> Events:
        """The chosen events, grouped anew: `lengths` of each new user, adding up to the number chosen."""
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return Events(self.items[chosen], self.kinds[chosen], self.times[chosen], offsets)

    def last_of_each_kind(self, users: Ints, stops: Ints, length: int) -> Events:
        """Of each user (N,), the last `length` events of each kind before place `stops` (N,): enough for any history.

        A user of -1 is nobody and has none.
        """
        starts = np.where(users >= 0, self.offsets[np.maximum(users, 0)], stops)
        chosen, lengths = _last_of_each_kind(self.kinds, starts, stops, length)
        return self.rows(chosen, lengths)

    def save(self, stem: Path) -> None:
        """Write `<stem>.items.npy`, `.kinds.npy`, `.times.npy` and `.offsets.npy`."""
        for name in ("items", "kinds", "times", "offsets"):
            np.save(f"{stem}.{name}.npy", getattr(self, name), allow_pickle=False)

    @classmethod
    def load(cls, stem: Path) -> Events:
        """Memory-map what `save` wrote."""
        names = ("items", "kinds", "times", "offsets")
        return cls(*(load_array(f"{stem}.{name}.npy") for name in names))


def history_bags(history: History, events: Events, users: Ints, stops: Ints, bags: Ragged) -> Ragged:
    """What a history feature sees of each user (B,) at place `stops` (B,) of the events: weighted bags, (B,).

    `bags` are the items' feature that it looks through. Rows stand most recent event first; `weights` add up to 1 in
    each bag that is not empty. A user of -1 is nobody: an empty bag.
    """
    starts = np.where(users >= 0, events.offsets[np.maximum(users, 0)], stops)
    half_life = np.inf if history.half_life_days is None else history.half_life_days * DAY
    values, weights, offsets = _bags(
        events.items,
        events.kinds,
        events.times,
        starts,
        stops,
        kind_weights(history),
        half_life,
        history.length,
        bags.values,
        bags.offsets,
    )
    return Ragged(values, offsets, weights)


def kind_weights(history: History) -> NDArray[np.float64]:
    """What an event of each of KINDS weighs, (K,); 0: it is not read."""
    return np.array([history.weights.get(kind, 0.0) for kind in KINDS])


@compiled
def _bags(
    items: Any, kinds: Any, times: Any, starts: Any, stops: Any, kind_weights: Any, half_life: float, length: int,
    values: Any, offsets: Any,
) -> Any:  # fmt: skip
    count = len(starts)
    out_offsets = np.zeros(count + 1, np.int64)
    for b in range(count):
        at, left, size = stops[b] - 1, length, 0
        while at >= starts[b] and left > 0:
            if kind_weights[kinds[at]] > 0:
                size += offsets[items[at] + 1] - offsets[items[at]]
                left -= 1
            at -= 1
        out_offsets[b + 1] = out_offsets[b] + size
    out = np.empty(out_offsets[count], values.dtype)
    weights = np.empty(out_offsets[count], np.float32)
    for b in range(count):
        at, left, to, total = stops[b] - 1, length, out_offsets[b], 0.0
        newest = times[0]
        while at >= starts[b] and left > 0:
            weight = kind_weights[kinds[at]]
            if weight > 0:
                first, last = offsets[items[at]], offsets[items[at] + 1]
                if to == out_offsets[b]:  # the age of the last event that is seen at all: its weight is never lost
                    newest = times[at]
                weight *= np.exp2((times[at] - newest) / half_life)
                for place in range(first, last):
                    out[to], weights[to] = values[place], weight
                    to += 1
                total += weight * (last - first)
                left -= 1
            at -= 1
        for place in range(out_offsets[b], to):
            weights[place] /= total
    return out, weights, out_offsets


@compiled
def _last_of_each_kind(kinds: Any, starts: Any, stops: Any, length: int) -> Any:
    lengths = np.zeros(len(starts), np.int64)
    chosen = np.empty(np.sum(stops - starts), np.int64)
    size = 0
    for b in range(len(starts)):
        left = np.full(len(KINDS), length)
        first = size
        for at in range(stops[b] - 1, starts[b] - 1, -1):
            if left[kinds[at]] > 0:
                left[kinds[at]] -= 1
                chosen[size] = at
                size += 1
        chosen[first:size] = chosen[first:size][::-1].copy()
        lengths[b] = size - first
    return chosen[:size], lengths
