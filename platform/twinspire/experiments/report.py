"""What a report says, as data: the page, the terminal and `--json` all show this."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Part of a report: cannot be changed, holds nothing that is not declared."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Point(Part):
    """A lift as it was known at one look, with its always-valid interval."""

    time: datetime
    lift: float
    low: float
    high: float


class Once(Part):
    """Interval and p-value for one look at a time fixed in advance."""

    low: float
    high: float
    p: float
    method: Literal["delta", "bootstrap"]


class Comparison(Part):
    """One treatment against the control in one metric and slice. Lifts are shares: 0.02 is +2 %.

    `low`, `high` and `p` hold at every look and are corrected for the number of comparisons of their kind. All are None
    where an arm has too few units.
    """

    arm: str
    metric: str
    title: str
    slice: str
    units: tuple[int, int]
    control: float | None
    treatment: float | None
    lift: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    clear: bool = False
    better: bool | None = None  # of a clear difference
    once: Once | None = None
    explained: float | None = None  # share of the variance that the units' past explains
    curve: tuple[Point, ...] = ()


class ArmCount(Part):
    """One arm: its share of the units, as planned and as found."""

    name: str
    units: int
    expected: float
    observed: float


class SampleRatio(Part):
    """Whether the arms got the shares that their weights promise; `curve` is the last arm's share at each look."""

    p: float
    trusted: bool
    arms: tuple[ArmCount, ...]
    times: tuple[datetime, ...] = ()
    shares: dict[str, tuple[float, ...]] = {}


class GuardLine(Part):
    """One arm and one limit. Shares are of searches; `limit_text` is the limit as it was declared."""

    arm: str
    name: str
    title: str
    limit: float
    share: float | None
    low: float | None
    worst: float | None = None  # of a broken limit: the share over the whole, or of the step that broke it alone
    value: float | None = None  # the 99th percentile in ms, for p99_ms
    broken: bool
    since: datetime | None = None
    stops: bool = False
    times: tuple[datetime, ...] = ()
    by_step: tuple[float | None, ...] = ()


class Verdict(Part):
    """What to do, and why, in one sentence."""

    kind: Literal["ship", "weigh", "stop", "distrust", "guardrail", "keep_running", "no_winner", "too_early"]
    arm: str | None
    sentence: str
    notes: tuple[str, ...] = ()
    days_left: float | None = None

    @property
    def alarm(self) -> bool:
        """Whether someone should act now: stop an arm, or mend the test."""
        return self.kind in ("stop", "distrust", "guardrail")


class Facts(Part):
    """Which experiment it is, what was seen of it, and what to do: the same of every kind of experiment."""

    experiment: str
    unit: str
    status: str
    since: datetime
    until: datetime
    end: datetime | None
    step_seconds: float
    searches: int
    units: int
    verdict: Verdict


class Report(Facts):
    """Everything that one experiment's events say."""

    primary: str
    mixed: int
    versions: dict[str, tuple[str, ...]] = {}  # of the bundles that answered each arm, in the order they came in
    ratio: SampleRatio
    comparisons: tuple[Comparison, ...]
    slices: tuple[Comparison, ...]
    guards: tuple[GuardLine, ...]
    glossary: dict[str, str]
    forms: dict[str, str]

    def primary_of(self, arm: str) -> Comparison:
        """An arm's comparison in the primary metric."""
        return next(one for one in self.comparisons if one.arm == arm and one.metric == self.primary)

    @property
    def treatments(self) -> list[str]:
        """The arms but the control."""
        return [arm.name for arm in self.ratio.arms[1:]]
