"""Which of two interleaved rankings shoppers prefer, from whose items they clicked.

Team-draft interleaving (Radlinski, Kurup and Joachims, 2008, "How does clickthrough data reflect retrieval quality?")
puts the items of both arms into one list, so that a shopper compares them at once; it needs tens of times fewer
searches than a split. A unit prefers the arm whose items it clicked more often; a unit that does not is a tie. Units,
not searches, are counted, as searches of one unit are not independent.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from twinspire.errors import DatasetError
from twinspire.experiments import sequential
from twinspire.experiments.events import HEAD, TAIL, TORSO, common_queries, counted, looks_between, query_key, step_of
from twinspire.experiments.report import Facts, Part, Verdict
from twinspire.experiments.verdict import is_over, when_decided

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.experiments.spec import Experiment

LEAST_UNITS = 50
TUNED_FOR = 2000  # units at which the always-valid interval is narrowest
UNFAIR = 0.001  # the alarm of the draft's check: it is looked at daily
CREDITED = ("click", "cart", "purchase")
SLICES = {"head queries": HEAD, "torso queries": TORSO, "long-tail queries": TAIL}


class Shares(Part):
    """How many units prefer each arm. `share` is the second arm's among those that prefer one; 0.5 is no preference.

    `low`, `high` and `p` hold at every look. All are None where too few units prefer one.
    """

    first: int
    second: int
    ties: int
    share: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    @property
    def decided(self) -> int:
        """Units that prefer one arm."""
        return self.first + self.second

    @property
    def clear(self) -> bool:
        """Whether one arm is preferred."""
        return self.p is not None and self.p <= sequential.ALPHA


class Look(Shares):
    """What was known at one look."""

    time: datetime


class Slice(Shares):
    """A part of the searches; corrected for the number of parts."""

    name: str


class Draft(Part):
    """Whether the coin that says who drafts first is fair: in how many answers each arm led."""

    led: tuple[int, int]
    p: float

    @property
    def trusted(self) -> bool:
        """Whether chance explains the difference."""
        return self.p >= UNFAIR


class Preference(Facts, Shares):
    """Everything that one interleaved experiment's events say; `p_once` is the binomial test's, for one look."""

    arms: tuple[str, str]
    p_once: float | None = None
    curve: tuple[Look, ...]
    slices: tuple[Slice, ...]
    draft: Draft


def preference(folder: Path, experiment: Experiment, *, until: datetime | None = None) -> Preference:
    """Read drafted answers (`items` and `teams` of the exposures) and their clicks, and count.

    Errors: DatasetError where there are none.
    """
    until = min((time for time in (until, experiment.end) if time is not None), default=None)
    drafted = _drafted(folder, experiment, until)
    facts = drafted.select(
        pl.len().alias("searches"), pl.col("unit_id").n_unique().alias("units"),
        pl.col("timestamp").min().alias("first"), pl.col("timestamp").max().alias("last"),
    ).collect(engine="streaming").row(0, named=True)  # fmt: skip
    if facts["searches"] == 0:
        raise DatasetError(f"{folder}: no interleaved answers of experiment {experiment.name!r}")
    since, last = experiment.start or facts["first"], facts["last"]
    step = step_of((experiment.end or last) - since)
    looks = looks_between(since, last, step, until)
    common = common_queries(drafted, facts["searches"])
    credit = _credit(drafted, _clicks(folder, until), common, since, step, len(looks))
    everyone = _by_look(credit, len(looks))
    found = Preference(
        **everyone[-1].model_dump(),
        experiment=experiment.name,
        arms=(experiment.arms[0].name, experiment.arms[1].name),
        unit=experiment.unit,
        status=experiment.status,
        since=since,
        until=last,
        end=experiment.end,
        step_seconds=step.total_seconds(),
        searches=facts["searches"],
        units=facts["units"],
        p_once=_p_once(everyone[-1].first, everyone[-1].second),
        curve=tuple(Look(**one.model_dump(), time=at) for one, at in zip(everyone, looks, strict=True)),
        slices=tuple(_slices(credit)),
        draft=_draft(drafted),
        verdict=Verdict(kind="too_early", arm=None, sentence=""),
    )
    return found.model_copy(update={"verdict": decide(found)})


def shares(first: int, second: int, ties: int, alpha: float = sequential.ALPHA) -> Shares:
    """Add share, interval and p-value to counts of units."""
    counts = Shares(first=first, second=second, ties=ties)
    if counts.decided < LEAST_UNITS:
        return counts
    share, time = second / counts.decided, _time(counts)
    half = float(sequential.boundary(time, alpha)) * 0.5 / np.sqrt(counts.decided)
    return counts.model_copy(
        update={
            "share": share,
            "low": max(share - half, 0.0),
            "high": min(share + half, 1.0),
            "p": float(sequential.p_value(np.array(_z(share, counts.decided)), np.array(time))),
        }
    )


def decide(found: Preference) -> Verdict:
    """What to do, in one sentence: distrust, choose or keep, wait, or no winner."""
    first, second = found.arms
    if not found.draft.trusted:
        led = found.draft.led[1] / sum(found.draft.led)
        sentence = (
            f"Do not trust this test: {second} came first in {led:.1%} of the answers where half were planned, more "
            "than chance explains; find out which answers are missing before reading on."
        )
        return Verdict(kind="distrust", arm=None, sentence=sentence)
    if found.share is None or found.low is None or found.high is None:
        sentence = f"Too early to say: {found.decided} {found.unit}s prefer an arm; at least {LEAST_UNITS} are needed."
        return Verdict(kind="too_early", arm=None, sentence=sentence)
    those = f"of {found.decided:,} {found.unit}s who click one arm's items more"
    span = f"{found.low:.1%} to {found.high:.1%}"
    if found.clear and found.share > 0.5:
        notes = ("Clicks were compared, not sales: for conversion or money, split the traffic (kind: split).",)
        sentence = f"Choose {second}: {found.share:.1%} {those} prefer it, in truth {span}."
        return Verdict(kind="ship", arm=second, sentence=sentence, notes=notes)
    if found.clear:
        sentence = f"Keep {first}: only {found.share:.1%} {those} prefer {second}, in truth {span}."
        return Verdict(kind="stop", arm=second, sentence=sentence)
    so_far = f"{found.share:.1%} {those} prefer {second}"
    if is_over(found):
        sentence = f"No winner: {so_far}, but what was seen fits {span}; keep {first} unless {second} is cheaper."
        return Verdict(kind="no_winner", arm=second, sentence=sentence)
    growth = sequential.growth_until_clear(_z(found.share, found.decided), _time(found))
    days = None if growth is None else (growth - 1) * ((found.until - found.since) / timedelta(days=1))
    sentence = f"Keep running: {so_far} so far, but the truth may be {span}; {when_decided(found, days)}."
    return Verdict(kind="keep_running", arm=second, sentence=sentence, days_left=days)


def _time(counts: Shares) -> float:
    return counts.decided * sequential.narrowest_at() / TUNED_FOR


def _z(share: float, decided: int) -> float:
    return float((share - 0.5) * 2 * np.sqrt(decided))  # 0.5: the deviation where there is no preference


def _p_once(first: int, second: int) -> float | None:
    decided = first + second
    return float(binomtest(second, decided).pvalue) if decided >= LEAST_UNITS else None


def _drafted(folder: Path, experiment: Experiment, until: datetime | None) -> pl.LazyFrame:
    files = sorted((folder / "exposures").glob("*.parquet"))
    if not files:
        raise DatasetError(f"{folder}: there is no exposures/*.parquet; give the folder of serve's --events")
    exposures = pl.scan_parquet(files, missing_columns="insert", extra_columns="ignore", glob=False)
    if "teams" not in exposures.collect_schema():
        raise DatasetError(f"{folder}: its exposures have no column teams, so no answer was interleaved")
    return counted(exposures, experiment, until).filter(pl.col("teams").is_not_null())


def _clicks(folder: Path, until: datetime | None) -> pl.LazyFrame:
    """Each item clicked in an answer, when first; what was clicked twice counts once."""
    files = sorted((folder / "interactions").glob("*.parquet"))
    if not files:
        return pl.LazyFrame(schema={"request_id": pl.String, "item_id": pl.String, "at": pl.Datetime("us", "UTC")})
    interactions = pl.scan_parquet(files, missing_columns="insert", extra_columns="ignore", glob=False)
    credited = interactions.filter(pl.col("event").is_in(CREDITED), pl.col("request_id").is_not_null())
    if until is not None:
        credited = credited.filter(pl.col("timestamp") < until)
    return credited.group_by("request_id", "item_id").agg(pl.col("timestamp").min().alias("at"))


def _credit(
    drafted: pl.LazyFrame, clicks: pl.LazyFrame, common: pl.DataFrame, since: datetime, step: timedelta, looks: int
) -> pl.DataFrame:
    """Rows (unit_id, kind, look): items of the second arm clicked in that step, less those of the first."""
    shown = drafted.select("request_id", "unit_id", query_key(), "items", "teams").explode("items", "teams")
    clicked = shown.join(clicks, left_on=["request_id", "items"], right_on=["request_id", "item_id"])
    passed = (pl.col("at") - since).dt.total_microseconds() // round(step.total_seconds() * 1e6)
    return (
        clicked.join(common.lazy(), on="q", how="left")
        .group_by("unit_id", pl.col("kind").fill_null(TAIL), passed.clip(0, looks - 1).alias("look"))
        .agg((pl.col("teams").cast(pl.Int32) * 2 - 1).sum().alias("step"))
        .collect(engine="streaming")
    )


def _by_look(credit: pl.DataFrame, looks: int) -> list[Shares]:
    """Counts of units by what they prefer at each look, after all their clicks so far."""
    steps = credit.group_by("unit_id", "look").agg(pl.col("step").sum()).sort("unit_id", "look")
    now = pl.col("step").cum_sum().over("unit_id")
    before = now.shift(1).over("unit_id")  # null at a unit's first
    kinds = {"first": -1, "second": 1, "ties": 0}
    moves = steps.select(
        "look",
        *(
            ((now.sign() == sign).cast(pl.Int64) - (before.sign() == sign).fill_null(value=False)).alias(name)
            for name, sign in kinds.items()
        ),
    )
    summed = moves.group_by("look").sum()
    counts = np.zeros((looks, len(kinds)), np.int64)
    counts[summed["look"].to_numpy()] = summed.select(*kinds).to_numpy()
    return [shares(*map(int, row)) for row in counts.cumsum(axis=0)]


def _slices(credit: pl.DataFrame) -> list[Slice]:
    """What units prefer in head, torso and long-tail queries."""
    alpha = sequential.ALPHA / len(SLICES)
    found = []
    for name, kind in SLICES.items():
        balance = credit.filter(kind=kind).group_by("unit_id").agg(pl.col("step").sum())["step"].to_numpy()
        counts = shares(int((balance < 0).sum()), int((balance > 0).sum()), int((balance == 0).sum()), alpha)
        found.append(Slice(**counts.model_dump(), name=name))
    p = [one.p for one in found if one.p is not None]
    corrected = iter(multipletests(p, method="holm")[1] if p else [])
    return [one if one.p is None else one.model_copy(update={"p": float(next(corrected))}) for one in found]


def _draft(drafted: pl.LazyFrame) -> Draft:
    """Who led, of answers that both arms drafted; the same search of a unit has the same coin, and counts once."""
    both = drafted.filter(pl.col("teams").list.n_unique() == 2)
    coins = both.group_by("user_id", "session_id", "query").agg(pl.col("teams").first().list.first().alias("led"))
    second, total = coins.select(pl.col("led").cast(pl.Int64).sum(), pl.len()).collect(engine="streaming").row(0)
    return Draft(led=(total - second, second), p=float(binomtest(second, total).pvalue) if total else 1.0)
