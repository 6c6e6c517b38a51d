"""Are the answers of experiments right as often as they say? `python -m benchmarks.experiment_aa`.

Simulated experiments of two weeks, looked at every day, with the platform's own estimates. First both arms are the
same: how often is a difference claimed, by someone who looks once, at the end, and by someone who looks daily and stops
at the first claim; with intervals for one look, and with always-valid ones. Then the treatment gains 10 %: how often
does the interval hold that, at the end, and at all looks at once. Units come back at rates of their own, so that days
of one unit go together, and money has a heavy tail.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest, chisquare, norm

from benchmarks import report
from twinspire.evaluation.figures import style
from twinspire.experiments import sequential
from twinspire.experiments.analysis import RATIO_ALPHA
from twinspire.experiments.contrast import Contrast, contrast
from twinspire.experiments.moments import Moments
from twinspire.experiments.resampling import resample

if TYPE_CHECKING:
    from numpy.typing import NDArray

DAYS, RUNS_A_BATCH, ALPHA = 14, 20, sequential.ALPHA
METRICS = {"conversion": "any", "sales a user": "money", "query rewrites": "ratio"}
LIFT = 0.10
FIGURE = Path(__file__).parents[1] / "docs" / "figures" / "experiment_aa.png"


@dataclass(frozen=True)
class Days:
    """Sums (runs, units, days) up to each day, who has come by then, and pasts (runs, units)."""

    purchases: NDArray[np.float64]
    money: NDArray[np.float64]
    searches: NDArray[np.float64]
    rewritten: NDArray[np.float64]
    past: NDArray[np.float64]
    here: NDArray[np.bool_]

    def values(self, metric: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """x and y of a metric, days before units."""
        x, y = {
            "conversion": ((self.purchases > 0).astype(np.float64), self.here.astype(np.float64)),
            "sales a user": (self.money, self.here.astype(np.float64)),
            "query rewrites": (self.rewritten, self.searches),
        }[metric]
        return np.moveaxis(x, 1, 2), np.moveaxis(y, 1, 2)


def draw(generator: np.random.Generator, runs: int, units: int, lift: float) -> Days:
    """One arm of `runs` experiments; `lift` raises purchases, and rewritten searches alike."""
    rate = 0.5 * generator.gamma(2.0, 0.5, (runs, units, 1))
    taste = generator.gamma(2.0, 0.5, (runs, units, 1))
    searches = generator.poisson(rate, (runs, units, DAYS)).astype(np.float64)
    purchases = generator.poisson(0.05 * (1 + lift) * taste * searches).astype(np.float64)
    # A sum of lognormals, as one of that mean and a tail at least as heavy.
    money = purchases * generator.lognormal(3.0, 1.2, searches.shape)
    fond = generator.beta(4, 12, (runs, units, 1)) * (1 + lift)
    rewritten = generator.binomial(searches.astype(np.int64), np.minimum(fond, 1.0)).astype(np.float64)
    past = np.log1p(generator.poisson(0.05 * taste[..., 0] * rate[..., 0] * DAYS)).astype(np.float64)
    bought, spent, asked, again = (values.cumsum(axis=2) for values in (purchases, money, searches, rewritten))
    return Days(bought, spent, asked, again, past=past, here=asked > 0)


def moments(days: Days, metric: str) -> Moments:
    """Moments (runs, days) of the units that have come by then."""
    x, y = days.values(metric)
    here = np.moveaxis(days.here, 1, 2).astype(np.float64)
    sums = Moments.of(x, y, np.broadcast_to(days.past[:, None, :], x.shape) * here).sums
    sums[..., 0] = here.sum(axis=2)
    return Moments(sums)


@dataclass
class Tally:
    """For each metric: lifts (runs, days), and whether intervals claim a difference or hold the truth."""

    once: dict[str, list[NDArray[np.bool_]]]
    always: dict[str, list[NDArray[np.bool_]]]
    bootstrap: list[bool]
    ratio: list[bool]


def simulate(
    runs: int, units: int, lift: float, *, seed: int = 0, bootstrapped: int = 0, progress: bool = False
) -> Tally:
    """Run experiments; a tally's arrays say, by run and day, whether the interval leaves out the truth."""
    generator = np.random.default_rng(seed)
    tally = Tally({name: [] for name in METRICS}, {name: [] for name in METRICS}, [], [])
    batches = range(0, runs, RUNS_A_BATCH)
    for start in track(batches, f"lift {lift:.0%}", console=Console(stderr=True)) if progress else batches:
        size = min(RUNS_A_BATCH, runs - start)
        arms = [draw(generator, size, units, gain) for gain in (0.0, lift)]
        found = {name: contrast(*(moments(arm, name) for arm in arms)) for name in METRICS}
        for name, estimate in found.items():
            missed_once, missed_always = misses(estimate, np.log(truth(name, lift)))
            tally.once[name].append(missed_once)
            tally.always[name].append(missed_always)
        for run in range(size):
            if start + run < bootstrapped:
                money = found["sales a user"]
                off = abs(money.log_lift[run, -1] - np.log1p(lift)) / np.sqrt(money.variance[run, -1])
                tally.bootstrap.append(bool(off > resample(*(_last(arm, run) for arm in arms)).bound()))
            tally.ratio.append(_ratio_alarm(generator, units))
    return tally


def misses(estimate: Contrast, log_truth: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """By run and day: does the interval for one look, and the always-valid one, leave out the truth?"""
    off = np.abs(estimate.log_lift - log_truth) / np.sqrt(estimate.variance)
    time = sequential.times(estimate.clock, DAYS)
    with np.errstate(invalid="ignore"):
        return off > norm.isf(ALPHA / 2), off > sequential.boundary(time, ALPHA)


def truth(metric: str, lift: float) -> NDArray[np.float64]:
    """Treatment over control on each day, of units that have come by then."""
    if metric != "conversion" or lift == 0:
        return np.full(DAYS, 1 + lift)
    # Of a unit with taste t and s searches, 1 - exp(-0.05 t s) buy; s by day d is negative binomial, at least 1.
    generator = np.random.default_rng(1)
    rate, taste = 0.5 * generator.gamma(2.0, 0.5, 60_000), generator.gamma(2.0, 0.5, 60_000)
    ratios = []
    for day in range(1, DAYS + 1):
        searches = generator.poisson(rate * day)
        came = searches > 0
        shares = [-np.expm1(-0.05 * gain * taste[came] * searches[came]).mean() for gain in (1 + lift, 1.0)]
        ratios.append(shares[0] / shares[1])
    return np.array(ratios)


def _last(arm: Days, run: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    x, y = (values[run, -1] for values in arm.values("sales a user"))
    here = arm.here[run, :, -1]
    return x[here], y[here], arm.past[run, here]


def _ratio_alarm(generator: np.random.Generator, units: int) -> bool:
    counts = generator.binomial(2 * units // DAYS, 0.5, DAYS).cumsum()
    totals = 2 * units // DAYS * np.arange(1, DAYS + 1)
    p = chisquare(np.stack([counts, totals - counts]), np.stack([totals, totals]) / 2, axis=0).pvalue
    return bool((p < RATIO_ALPHA).any())


def rates(tally: Tally) -> dict[str, Any]:
    """Shares of runs: at the last day, and on any day."""
    figures: dict[str, Any] = {}
    for name in METRICS:
        once, always = (np.concatenate(of[name]) for of in (tally.once, tally.always))
        figures[name] = {
            "one look, at the end": _share(once[:, -1]),
            "the same interval, looked at daily": _share(np.any(once, axis=1)),
            "always valid, looked at daily": _share(np.any(always, axis=1)),
        }
    if tally.bootstrap:
        figures["sales a user"]["bootstrap, at the end"] = _share(np.array(tally.bootstrap))
    return figures


def _share(hits: Any) -> dict[str, float]:
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return {"share": round(float(hits.mean()), 4), "low": round(interval.low, 4), "high": round(interval.high, 4)}


def draw_figure(tally: Tally, path: Path) -> Path:
    """False claims by the day on which one last looked: with the usual interval, and with the always-valid one."""
    figure = style.new_figure(3.6)
    panels = figure.subplots(1, len(METRICS), sharey=True)
    days = np.arange(1, DAYS + 1)
    for axes, name in zip(panels, METRICS, strict=True):
        for row, (label, of) in enumerate((("usual interval", tally.once), ("always-valid interval", tally.always))):
            claimed = np.maximum.accumulate(np.concatenate(of[name]), axis=1).mean(axis=0)
            axes.plot(
                days, 100 * claimed, color=style.colour(1 - row), marker=style.MARKERS[row], markersize=4,
                linewidth=1.8, label=label,
            )  # fmt: skip
        axes.axhline(100 * ALPHA, color=style.OTHER, linestyle="--", linewidth=1)
        axes.set_title(name.capitalize(), fontsize=style.FONT, loc="left", fontweight="bold", color=style.INK)
        axes.set_xlabel("days looked at", fontsize=style.FONT)
        axes.set_xticks([1, 4, 7, 10, 14])
        axes.tick_params(labelsize=style.FONT - 0.5, colors="#555555")
        axes.grid(axis="y", color="#EEEEEE")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylim(0, None)
    panels[0].set_ylabel("experiments with a false claim, %", fontsize=style.FONT)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False, fontsize=style.FONT)
    runs = len(np.concatenate(tally.once["conversion"]))
    style.heading(
        figure,
        "Looking every day multiplies false claims, unless intervals allow for it",
        f"{runs:,} simulated experiments in which both arms are the same; dashed: the 5 % that was promised.",
    )
    return style.save_png(figure, path)


@click.command()
@click.option("--runs", default=1000, show_default=True)
@click.option("--units", default=4000, show_default=True, help="Units an arm.")
@click.option("--bootstrapped", default=300, show_default=True, help="Runs whose money is bootstrapped too.")
def main(runs: int, units: int, bootstrapped: int) -> None:
    """Simulate, write the figures and the picture."""
    same = simulate(runs, units, 0.0, bootstrapped=bootstrapped, progress=True)
    planted = simulate(runs, units, LIFT, seed=1, bootstrapped=bootstrapped, progress=True)
    figures = {
        "runs": runs,
        "units an arm": units,
        "days": DAYS,
        "false claims, both arms alike": rates(same),
        "intervals that miss a lift of 10 %": rates(planted),
        "false alarms of the sample ratio, looked at daily": _share(np.array(same.ratio)),
    }
    path = report.write("experiment_aa", figures)
    _show(figures)
    print(draw_figure(same, FIGURE))
    print(path)


def _show(figures: dict[str, Any]) -> None:
    for title in ("false claims, both arms alike", "intervals that miss a lift of 10 %"):
        columns = list(figures[title]["sales a user"])
        table = Table("", *columns, title=f"{title}: % of {figures['runs']:,} runs", box=box.SIMPLE_HEAD)
        for name, cells in figures[title].items():
            table.add_row(name, *(_cell(cells.get(column)) for column in columns))
        Console().print(table)


def _cell(share: dict[str, float] | None) -> str:
    return "" if share is None else f"{share['share']:.1%} ({share['low']:.1%} to {share['high']:.1%})"


if __name__ == "__main__":
    main()
