"""Which arm a unit gets: a pure function of salts and ids, so that replicas agree and a unit stays where it is.

position = blake2b(salt, unit) in [0, 1). One half of the digest says whether the unit takes part, the other which arm
it gets, so that a change of the share moves nobody from one arm to another. In a layer, the layer's name is the salt of
the first question, and its experiments take parts of [0, 1) that do not overlap.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from hashlib import blake2b, sha256
from itertools import accumulate
from typing import TYPE_CHECKING

from twinspire.experiments.spec import Range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from twinspire.experiments.spec import Arm, Condition, Experiment

    Profile = Mapping[str, str | float | None]
    Parts = tuple[tuple[float, float], ...]

BELOW = " > "  # between the levels of a category
_UNIT = 2.0**-53


def positions(salt: str, unit: str) -> tuple[float, float]:
    """Two independent numbers in [0, 1), uniform over units and independent between salts."""
    digest = blake2b(f"{salt}\0{unit}".encode(), digest_size=16).digest()
    number = int.from_bytes(digest, "big")
    return (number >> 75) * _UNIT, (number >> 11 & (1 << 53) - 1) * _UNIT


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What an experiment gives a request: one arm, or both where it interleaves. Made once a plan; equal if the same.

    `counts`: it is an exposure; without, the experiment is stopped and keeps everyone on the control.
    """

    experiment: Experiment
    arms: tuple[Arm, ...]
    counts: bool = True
    override: bool = False

    label: str = field(init=False)  # the arm's name; of an interleaved answer `interleaved`

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.arms[0].name if len(self.arms) == 1 else "interleaved")


class _Compiled:
    """One experiment, ready to be asked."""

    def __init__(self, experiment: Experiment, parts: Parts) -> None:
        self.experiment, self.parts = experiment, parts
        self.whole = experiment.layer is None and experiment.share == 1
        self.start = experiment.start.timestamp() if experiment.start else -math.inf
        self.end = experiment.end.timestamp() if experiment.end else math.inf
        self.by_user = experiment.unit == "user"
        self.tests = [_test(column, condition) for column, condition in experiment.audience.items()]
        self.stopped = experiment.status == "stopped"
        arms = [(arm,) for arm in experiment.arms] if experiment.kind == "split" else [experiment.arms]
        weights = [arm.weight for arm in experiment.arms] if experiment.kind == "split" else [1.0]
        self.bounds = [bound / sum(weights) for bound in accumulate(weights)][:-1]
        self.chosen = [Chosen(experiment, one) for one in arms]
        self.control = Chosen(experiment, (experiment.control,), counts=False)

    def choose(self, unit: str, place: float | None, profile: Profile) -> Chosen | None:
        """`place` is the unit's in the layer, where there is one."""
        first, second = positions(self.experiment.salt, unit)
        if not self.whole:
            first = first if place is None else place
            if not any(low <= first < high for low, high in self.parts):
                return None
        if self.tests and not all(test(profile) for test in self.tests):
            return None
        return self.control if self.stopped else self.chosen[bisect_right(self.bounds, second)]


class Plan:
    """All experiments of a server, compiled once for each change. Immutable: any thread may ask."""

    def __init__(self, experiments: Iterable[Experiment] = ()) -> None:
        self.experiments = {one.name: one for one in sorted(experiments, key=_order)}
        self.fingerprint = _fingerprint(self.experiments.values())
        parts = layer_parts(self.experiments.values())
        self._live = [
            _Compiled(one, parts[one.name])
            for one in self.experiments.values()
            if one.status != "draft" and one.name in parts
        ]
        self._tested: dict[Chosen, Chosen] = {}
        self._overrides = {
            (name, arm.name): Chosen(one, (arm,), override=True)
            for name, one in self.experiments.items()
            for arm in one.arms
        }

    def __bool__(self) -> bool:
        return bool(self.experiments)

    @property
    def live(self) -> bool:
        """Whether any request can be in an experiment."""
        return bool(self._live)

    def assign(self, user: str | None, session: str | None, profile: Profile, now: float) -> tuple[Chosen, ...]:
        """What every experiment gives a request at `now` (seconds since 1970), in order of their starts; those of which
        the request has no unit, and those that it is no part of, give nothing."""
        found = []
        places: dict[str, float] = {}
        for one in self._live:
            unit = user if one.by_user else session
            if unit is None or not one.start <= now < one.end:
                continue
            layer, place = one.experiment.layer, None
            if layer is not None:
                if layer not in places:
                    places[layer] = positions(f"layer\0{layer}", unit)[0]
                place = places[layer]
            chosen = one.choose(unit, place, profile)
            if chosen is not None:
                found.append(chosen)
        return tuple(found)

    def tested(self, chosen: Chosen) -> Chosen:
        """The same as a tester's, who wants to see what is chosen and not to count."""
        if not chosen.counts or chosen.override:
            return chosen
        if chosen not in self._tested:
            self._tested[chosen] = replace(chosen, override=True)
        return self._tested[chosen]

    def override(self, experiment: str, arm: str) -> Chosen:
        """An arm that a tester asks for, of any experiment, a draft too. Errors: KeyError."""
        return self._overrides[experiment, arm]


def clashes(experiments: Sequence[Experiment]) -> dict[int, str]:
    """By place, why an experiment cannot run beside those that come before it in `experiments`."""
    refused: dict[int, str] = {}
    kept: list[Experiment] = []
    for place, one in enumerate(experiments):
        reason = next((said for other in kept if (said := _clash(one, other))), None)
        if reason is None and one.layer is not None and one.status != "draft":
            parts = layer_parts([*kept, one])
            if any(name not in parts for name in [one.name, *(other.name for other in kept if _live(other))]):
                reason = (
                    f"share: layer {one.layer} has no room for {one.share:g} more of its units; others keep their "
                    "shares until their end, stopped ones too"
                )
        if reason is None:
            kept.append(one)
        else:
            refused[place] = reason
    return refused


def _clash(one: Experiment, other: Experiment) -> str | None:
    if one.name == other.name:
        return f"name: another file has {one.name} too"
    if not (_live(one) and _live(other)) or not _overlap(one, other):
        return None
    if one.layer is not None and one.layer == other.layer:
        if one.unit != other.unit:
            return f"unit: {other.name} of the same layer has {other.unit}"
        return None
    both = _effect(one) & _effect(other)
    if both:
        what = ", ".join(sorted(both))
        return f"arms: {other.name} sets {what} too; put both into one layer, so that no unit is in both"
    return None


def _live(one: Experiment) -> bool:
    return one.status != "draft"


def _effect(one: Experiment) -> frozenset[str]:
    return one.control.changes if one.status == "stopped" else one.changes


def _overlap(one: Experiment, other: Experiment) -> bool:
    first, last = (one, other) if _order(one) <= _order(other) else (other, one)
    return first.end is None or last.start is None or last.start < first.end


def layer_parts(experiments: Iterable[Experiment]) -> dict[str, Parts]:
    """The part of [0, 1) of each experiment that is no draft; one for which its layer has no room is left out.

    In a layer they take what is free in order of their starts, so that a new one moves nobody. What one that is over
    before another starts had is free again.
    """
    parts: dict[str, Parts] = {}
    earlier: dict[str, list[Experiment]] = {}
    for one in sorted(experiments, key=_order):
        if one.status == "draft":
            continue
        if one.layer is None:
            parts[one.name] = ((0.0, one.share),)
            continue
        beside = [other for other in earlier.get(one.layer, []) if _overlap(one, other)]
        found = _take(one.share, sorted(part for other in beside for part in parts[other.name]))
        if found is not None:
            parts[one.name] = found
            earlier.setdefault(one.layer, []).append(one)
    return parts


def _take(share: float, taken: list[tuple[float, float]]) -> Parts | None:
    """The first free parts of [0, 1) that add up to `share`."""
    found: list[tuple[float, float]] = []
    at, left = 0.0, share
    for low, high in [*taken, (1.0, 1.0)]:
        if left > 0 and low > at:
            size = min(left, low - at)
            # What floating-point sums leave over is no gap.
            end = low if low - at - size < 1e-9 else at + size
            if end - at > 1e-9:
                found.append((at, end))
                left -= size
        at = max(at, high)
    return tuple(found) if left < 1e-9 else None


def _order(one: Experiment) -> tuple[float, str]:
    return one.start.timestamp() if one.start else -math.inf, one.name


def _fingerprint(experiments: Iterable[Experiment]) -> str:
    digest = sha256()
    for one in sorted(experiments, key=lambda one: one.name):
        digest.update(one.model_dump_json().encode() + b"\n")
    return digest.hexdigest()[:16]


def _test(column: str, condition: Condition) -> Callable[[Profile], bool]:
    """Whether a profile meets one condition, as filters have it: a value, one of several, or from `min` to `max`."""
    if isinstance(condition, Range):
        low = -math.inf if condition.min is None else condition.min
        high = math.inf if condition.max is None else condition.max

        def between(profile: Profile) -> bool:
            value = profile.get(column)
            return not isinstance(value, str) and value is not None and low <= value <= high

        return between
    values = condition if isinstance(condition, list) else [condition]
    equal = frozenset(values)
    below = tuple(f"{value}{BELOW}" for value in values if isinstance(value, str))

    def one_of(profile: Profile) -> bool:
        value = profile.get(column)
        return value in equal or (isinstance(value, str) and value.startswith(below))

    return one_of
