"""Which version answers a request, and what is kept of that: live traffic split between the arms of experiments.

Everything that can be known beforehand is: for each combination of arms there is one `_Cell`, made when it first comes
up and gone with its plan. A request then costs a hash for each experiment and a look-up.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from serving.versions import DEFAULT_ARM
from twinspire.errors import BundleError, RequestError
from twinspire.experiments.assign import Plan, positions
from twinspire.experiments.interleave import interleave
from twinspire.index.variation import Variation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serving.schema import Question
    from serving.versions import Version, Versions
    from twinspire.experiments.assign import Chosen
    from twinspire.experiments.spec import Arm

HEADER = "x-twinspire-arm"
AS_CHOSEN = b"*"  # in place of an arm: as without the header, but marked as a tester's
NOBODY: Mapping[str, str | float | None] = {}
NOTHING: Mapping[str, Any] = {}
_NO_UNIT = b',"experiments":{},"outside_experiments":"the request names neither user_id nor session_id"'


class Choice(NamedTuple):
    """What answers a request. `told` goes into the answer, `exposed` is kept of it, `second` drafts too."""

    version: Version
    told: bytes = b""
    exposed: Exposed | None = None
    second: Version | None = None
    seed: int = 0
    label: str = DEFAULT_ARM  # for the log of requests


class Exposed(NamedTuple):
    """A request that counts in experiments."""

    chosen: tuple[Chosen, ...]
    request_id: str
    query: str
    user: str | None
    session: str | None

    def rows(
        self, version: Version, results: int, took_ms: float, status: int, drafted: Mapping[str, Any] = NOTHING
    ) -> list[bytes]:
        """A row of `exposures` for each experiment; `drafted` are the further columns of an interleaved answer."""
        now, model = time.time_ns() // 1000, version.model["version"]
        return [
            orjson.dumps(
                {
                    "timestamp": now,
                    "request_id": self.request_id,
                    "experiment": one.experiment.name,
                    "arm": one.label,
                    "unit_id": (self.user if one.experiment.unit == "user" else self.session) or "",
                    "user_id": self.user,
                    "session_id": self.session,
                    "query": self.query,
                    "results": results,
                    "took_ms": took_ms,
                    "status": status,
                    "model_version": model,
                    "override": one.override,
                    **drafted,
                }
            )
            for one in self.chosen
        ]


class _Cell:
    """One combination of arms: whose bundle, ranked how, and what is said of it."""

    def __init__(self, chosen: tuple[Chosen, ...], keys: Mapping[str, str]) -> None:
        self.counted = tuple(one for one in chosen if one.counts)
        self.told = b',"experiments":' + orjson.dumps({one.experiment.name: one.label for one in self.counted})
        self.label = ",".join(f"{one.experiment.name}={one.label}" for one in self.counted) or DEFAULT_ARM
        drafting = next((one for one in chosen if len(one.arms) > 1), None)
        self.salt = drafting.experiment.salt if drafting else ""
        self.wanted = [
            self._wanted([one.arms[min(side, len(one.arms) - 1)] for one in chosen], keys)
            for side in range(2 if drafting else 1)
        ]
        self._found: tuple[list[Version], list[Version]] = [], []

    def versions(self, versions: Versions) -> list[Version]:
        """Those that answer: one, or two that draft. Errors: BundleError, RequestError where there is none any more."""
        bases = [versions.of(key) for key, _ in self.wanted]
        if self._found[0] != bases:
            self._found = bases, [base.varied(change) for base, (_, change) in zip(bases, self.wanted, strict=True)]
        return self._found[1]

    @staticmethod
    def _wanted(arms: Sequence[Arm], keys: Mapping[str, str]) -> tuple[str, Variation]:
        """Whose bundle and which changes: what each arm sets, a later one's before an earlier one's."""
        key = DEFAULT_ARM
        changes: dict[str, Any] = {}
        for arm in arms:
            if arm.bundle is not None:
                key = keys[arm.bundle]
            changes |= arm.parameters.model_dump(exclude_unset=True)
        return key, Variation(**changes)


class _Split(NamedTuple):
    """A plan, the versions' arms by their bundles' addresses, and the combinations that have come up."""

    plan: Plan
    keys: Mapping[str, str]
    cells: dict[tuple[Chosen, ...], _Cell]


class Splitter:
    """The plan of a server's experiments on the versions that it has. What a request reads is replaced as a whole."""

    def __init__(self, versions: Versions) -> None:
        self._versions = versions
        self._split = _Split(Plan(), {}, {})
        self.exposures: Counter[tuple[str, str]] = Counter()  # by experiment and arm

    @property
    def plan(self) -> Plan:
        """What traffic is split by now."""
        return self._split.plan

    def follow(self, plan: Plan, keys: Mapping[str, str]) -> None:
        """Split by a plan from the next request on, from any thread; nothing changes where it is the same.

        `keys` are the versions' arms by their bundles' addresses.
        """
        if plan.fingerprint != self._split.plan.fingerprint or keys != self._split.keys:
            self._split = _Split(plan, keys, {})

    def choose(self, asked: Question, arm: str | None, request_id: str = "", override: bytes | None = None) -> Choice:
        """Which version answers. A request that names a server's arm is in no experiment.

        Errors: RequestError for an arm that there is not, the header's too.
        """
        plan, keys, cells = self._split
        if arm is not None or not (plan.live or override):
            return Choice(self._versions.of(arm), label=arm or DEFAULT_ARM)
        user = session = None
        profile = NOBODY
        if asked.user is not None:
            user, session = asked.user.user_id, asked.user.session_id
            profile = asked.user.profile or NOBODY
        chosen = plan.assign(user, session, profile, time.time())
        if override:
            chosen = _overridden(plan, chosen, override)
        elif user is None and session is None:
            return Choice(self._versions.of(None), _NO_UNIT)
        cell = cells.get(chosen)
        if cell is None:
            cell = cells[chosen] = _Cell(chosen, keys)
        try:
            versions = cell.versions(self._versions)
        except (BundleError, RequestError):  # dropped or replaced since: the next plan will say so
            return Choice(self._versions.of(None), b',"experiments":{}')
        exposed = None
        if cell.counted:
            exposed = Exposed(cell.counted, request_id, asked.query, user, session)
        if len(versions) == 1:
            return Choice(versions[0], cell.told, exposed, label=cell.label)
        # The same for the same search of a unit, in every replica: a shopper who comes back sees the same list.
        seed = int(positions(f"draft\0{cell.salt}", f"{user}\0{session}\0{asked.query}")[0] * 2**53)
        return Choice(versions[0], cell.told, exposed, versions[1], seed, cell.label)

    def count(self, exposed: Exposed) -> None:
        """Count what has been kept."""
        for one in exposed.chosen:
            self.exposures[one.experiment.name, one.label] += 1

    def status(self) -> dict[str, Any]:
        """For /v1/status."""
        return {
            "fingerprint": self.plan.fingerprint,
            "running": {
                name: {
                    "status": one.status,
                    "kind": one.kind,
                    "unit": one.unit,
                    "start": one.start,
                    "end": one.end,
                    "arms": {
                        arm.name: {
                            "weight": arm.weight,
                            "bundle": arm.bundle,
                            "parameters": arm.parameters.model_dump(exclude_unset=True),
                            "exposures": self.exposures[name, arm.name],
                        }
                        for arm in one.arms
                    },
                    "interleaved": self.exposures[name, "interleaved"],
                }
                for name, one in self.plan.experiments.items()
            },
        }


def _overridden(plan: Plan, chosen: tuple[Chosen, ...], header: bytes) -> tuple[Chosen, ...]:
    """What a tester asks for in place of what was chosen. Errors: RequestError for an arm that there is not."""
    if header == AS_CHOSEN:
        return tuple(plan.tested(one) for one in chosen)
    asked = []
    for one in header.decode("latin-1").split(","):
        experiment, _, arm = one.strip().partition("=")
        try:
            asked.append(plan.override(experiment, arm))
        except KeyError:
            raise RequestError(HEADER, f"{one.strip()[:200]!r} names no arm; write {_known(plan)}") from None
    names = {one.experiment.name for one in asked}
    return (*(one for one in chosen if one.experiment.name not in names), *asked)


def _known(plan: Plan) -> str:
    some = [f"{name}={arm.name}" for name, one in plan.experiments.items() for arm in one.arms][:8]
    return f"EXPERIMENT=ARM, such as {', '.join(some)}" if some else "nothing: this server has no experiments"


def draft(first: bytes, second: bytes, k: int, seed: int) -> tuple[bytes, bytes, dict[str, Any]]:
    """Two results, as a batch has them, drafted into one: its items, what was understood, the columns of its exposure.

    Items have the place of the arm that drafted them as their `team`.
    """
    found = [orjson.loads(first), orjson.loads(second)]
    numbers: dict[str, int] = {}
    ranked = [[numbers.setdefault(item["item_id"], len(numbers)) for item in one["items"]] for one in found]
    items, teams = interleave(ranked[0], ranked[1], k, seed)
    by_number = [dict(zip(rows, one["items"], strict=True)) for rows, one in zip(ranked, found, strict=True)]
    shown = [by_number[team][item] | {"team": team} for item, team in zip(items, teams, strict=True)]
    understood = b',"understood":' + orjson.dumps(found[0]["understood"]) if "understood" in found[0] else b""
    return orjson.dumps(shown), understood, {"items": [item["item_id"] for item in shown], "teams": teams}
