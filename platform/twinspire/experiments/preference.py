"""Which of two interleaved rankings shoppers prefer, from whose items they clicked.

Team-draft interleaving (Radlinski, Kurup and Joachims, 2008, "How does clickthrough data reflect retrieval quality?")
puts the items of both arms into one list, so that a shopper compares them at once; it needs tens of times fewer
searches than a split. A unit prefers the arm whose items it clicked more often; a unit that does not is a tie. Units,
not searches, are counted, as searches of one unit are not independent.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict
from scipy.stats import binomtest

from twinspire.errors import DatasetError
from twinspire.experiments import sequential

if TYPE_CHECKING:
    from pathlib import Path

    from twinspire.experiments.spec import Experiment

LEAST_UNITS = 50
TUNED_FOR = 2000  # units at which the always-valid interval is narrowest
CREDITED = ("click", "cart", "purchase")


class Preference(BaseModel):
    """How many units prefer each arm. `share` is the second arm's among those that prefer one; 0.5 is none.

    `low`, `high` and `p` hold at every look; `p_once` is the binomial test's, for one look.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str
    arms: tuple[str, str]
    since: datetime
    until: datetime
    searches: int
    units: int
    first: int
    second: int
    ties: int
    share: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_once: float | None = None
    sentence: str = ""


def preference(folder: Path, experiment: Experiment, *, until: datetime | None = None) -> Preference:
    """Read drafted answers (`items` and `teams` of the exposures) and their clicks, and count.

    Errors: DatasetError where there are none.
    """
    drafted = _drafted(folder, experiment, until)
    clicks = _clicks(folder)
    shown = drafted.select("request_id", "unit_id", "items", "teams").explode("items", "teams")
    credit = shown.join(clicks, left_on=["request_id", "items"], right_on=["request_id", "item_id"], how="semi")
    units = (
        credit.group_by("unit_id")
        .agg((pl.col("teams").cast(pl.Int32) * 2 - 1).sum().alias("balance"))
        .collect(engine="streaming")
    )
    facts = drafted.select(
        pl.len(), pl.col("unit_id").n_unique().alias("units"), pl.col("timestamp").min().alias("since"),
        pl.col("timestamp").max().alias("until"),
    ).collect(engine="streaming").row(0, named=True)  # fmt: skip
    if facts["len"] == 0:
        raise DatasetError(f"{folder}: no interleaved answers of experiment {experiment.name!r}")
    balance = units["balance"].to_numpy()
    return judge(
        Preference(
            experiment=experiment.name,
            arms=(experiment.arms[0].name, experiment.arms[1].name),
            since=facts["since"],
            until=facts["until"],
            searches=facts["len"],
            units=facts["units"],
            first=int((balance < 0).sum()),
            second=int((balance > 0).sum()),
            ties=int((balance == 0).sum()),
        )
    )


def judge(found: Preference) -> Preference:
    """Add share, interval, p-values and the sentence to the counts."""
    first, second = found.arms
    decided = found.first + found.second
    if decided < LEAST_UNITS:
        sentence = f"Too early to say: {decided} units prefer an arm; at least {LEAST_UNITS} are needed."
        return found.model_copy(update={"sentence": sentence})
    share = found.second / decided
    time = np.array(decided * sequential.narrowest_at() / TUNED_FOR)
    half = float(sequential.boundary(time)) * 0.5 / np.sqrt(decided)  # 0.5: the deviation where there is no preference
    p = float(sequential.p_value(np.array((share - 0.5) * 2 * np.sqrt(decided)), time))
    ahead = second if share > 0.5 else first
    part = max(share, 1 - share)
    sentence = (
        f"{ahead} is preferred: of the units that click one arm's items more, {part:.1%} click its."
        if p <= sequential.ALPHA
        else f"Keep running: no clear preference yet; {second} is ahead for {share:.1%} of the units that prefer one."
    )
    return found.model_copy(
        update={
            "share": share,
            "low": max(share - half, 0.0),
            "high": min(share + half, 1.0),
            "p": p,
            "p_once": float(binomtest(found.second, decided).pvalue),
            "sentence": sentence,
        }
    )


def _drafted(folder: Path, experiment: Experiment, until: datetime | None) -> pl.LazyFrame:
    files = sorted((folder / "exposures").glob("*.parquet"))
    if not files:
        raise DatasetError(f"{folder}: there is no exposures/*.parquet; give the folder of serve's --events")
    exposures = pl.scan_parquet(files, missing_columns="insert", extra_columns="ignore")
    if "teams" not in exposures.collect_schema():
        raise DatasetError(f"{folder}: its exposures have no column teams, so no answer was interleaved")
    found = exposures.filter(
        pl.col("experiment") == experiment.name, ~pl.col("override"), pl.col("teams").is_not_null()
    )
    end = min((time for time in (until, experiment.end) if time is not None), default=None)
    return found if end is None else found.filter(pl.col("timestamp") < end)


def _clicks(folder: Path) -> pl.LazyFrame:
    files = sorted((folder / "interactions").glob("*.parquet"))
    if not files:
        return pl.LazyFrame(schema={"request_id": pl.String, "item_id": pl.String})
    interactions = pl.scan_parquet(files, missing_columns="insert", extra_columns="ignore")
    credited = interactions.filter(pl.col("event").is_in(CREDITED), pl.col("request_id").is_not_null())
    return credited.select("request_id", "item_id").unique()
