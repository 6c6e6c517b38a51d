"""`twinspire experiment`: A/B tests from the plan to the answer."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import RenderableType

    from twinspire.experiments.preference import Preference
    from twinspire.experiments.report import Report
    from twinspire.experiments.spec import Experiment

EXAMPLES = """\b
Examples:
  twinspire experiment plan --baseline 0.04 --per-day 10000 --lift 0.03
  twinspire experiment start dpsr-vs-bm25 --experiments experiments
  twinspire serve --bundle models:/shop@champion --experiments experiments --events events
  twinspire experiment report dpsr-vs-bm25 --experiments experiments --events events --out report.html
  twinspire experiment watch --experiments experiments --events events
  twinspire experiment stop dpsr-vs-bm25 --experiments experiments --reason "it won"
"""

PLAN_EXAMPLES = """\b
Examples:
  twinspire experiment plan --baseline 0.04 --per-day 10000 --lift 0.03
  twinspire experiment plan --metric gmv_per_user --baseline 6.5 --deviation 3.2 --per-day 10000 --lift 0.05
  twinspire experiment plan --like dpsr-vs-bm25 --experiments experiments --events events --lift 0.02
  twinspire experiment plan --baseline 0.04 --per-day 10000 --lift 0.03 --weight 9 --weight 1
With --like, level, spread and traffic of the metric are those of an experiment that ran before.
"""

START_EXAMPLES = """\b
Examples:
  twinspire experiment start dpsr-vs-bm25 --experiments experiments
A running server takes it up by itself.
"""

STOP_EXAMPLES = """\b
Examples:
  twinspire experiment stop dpsr-vs-bm25 --experiments experiments --reason "no difference in three weeks"
  twinspire experiment stop dpsr-vs-bm25 --experiments experiments --events events --promote --data shop
With --promote the report must say to ship an arm, and its bundle must pass the registry's gates on --data; else nothing
changes.
"""

REPORT_EXAMPLES = """\b
Examples:
  twinspire experiment report dpsr-vs-bm25 --experiments experiments --events events
  twinspire experiment report dpsr-vs-bm25 --experiments experiments --events events --out report.html
  twinspire experiment report dpsr-vs-bm25 --experiments experiments --events events --json
  twinspire experiment report dpsr-vs-bm25 --experiments experiments --events events --until 2026-12-08
With --exit-code it exits with 1 where the report says to stop an arm, or not to trust the test.
"""

WATCH_EXAMPLES = """\b
Examples:
  twinspire experiment watch --experiments experiments --events events
  twinspire experiment watch --experiments experiments --events events --once
An arm that breaks a guardrail is stopped: with one treatment the experiment ends, with several its units get what the
control's get. What was done, and why, is in decisions.jsonl beside the experiments.
"""

experiments_option = click.option(
    "--experiments", required=True, type=click.Path(path_type=Path), help="Folder of experiments, a YAML file each."
)
events_option = click.option(
    "--events", required=True, type=click.Path(path_type=Path), help="Folder that `twinspire serve --events` writes."
)


@click.group(name="experiment", epilog=EXAMPLES)
def command() -> None:
    """Plan, start, stop and judge A/B tests."""


@command.command(epilog=PLAN_EXAMPLES)
@click.option("--lift", required=True, type=float, help="The least change that matters: 0.02 is 2 %.")
@click.option("--baseline", type=float, help="The metric now: a share, or with --deviation a mean.")
@click.option("--deviation", type=click.FloatRange(0, min_open=True), help="A unit's standard deviation over the mean.")
@click.option("--per-day", type=click.FloatRange(0, min_open=True), help="Units that come a day, for the first time.")
@click.option("--like", metavar="NAME", help="Take these from an experiment that ran before.")
@click.option("--experiments", type=click.Path(path_type=Path), help="Folder of experiments, for --like.")
@click.option("--events", type=click.Path(path_type=Path), help="Folder of events, for --like.")
@click.option("--metric", default="ucvr", show_default=True, help="The metric that decides.")
@click.option(
    "--weight", "weights", multiple=True, type=click.FloatRange(0, min_open=True), help="One an arm; default two alike."
)
@click.option(
    "--power", default=0.8, show_default=True, type=click.FloatRange(0.05, 0.999), help="How often it is found."
)
@click.option(
    "--share",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Of the units that take part.",
)
def plan(
    lift: float,
    baseline: float | None,
    deviation: float | None,
    per_day: float | None,
    like: str | None,
    experiments: Path | None,
    events: Path | None,
    metric: str,
    weights: tuple[float, ...],
    power: float,
    share: float,
) -> None:
    """Say how long a test must run to find a change."""
    from rich.console import Console

    from twinspire.experiments import power as powers
    from twinspire.experiments.metrics import BUILT_IN
    from twinspire.experiments.table import render_plan

    if len(weights) == 1:
        raise click.UsageError("--weight: give one for each arm, the control's first")
    if like is not None:
        if experiments is None or events is None:
            raise click.UsageError("--like needs --experiments and --events")
        from twinspire.experiments.analysis import baseline_of

        _, before = _find(experiments, like)
        known = baseline_of(events, before, metric)
    elif baseline is None or per_day is None:
        raise click.UsageError("give --baseline and --per-day, or --like NAME")
    elif deviation is not None:
        known = powers.Baseline(baseline, deviation, per_day)
    else:
        known = powers.Baseline.of_share(baseline, per_day)
    found = powers.plan(known, lift, weights=weights or (1.0, 1.0), power=power, share=share)
    title = BUILT_IN[metric].title.lower() if metric in BUILT_IN else metric
    Console(highlight=False).print(render_plan(found, title, "unit"))


@command.command(epilog=START_EXAMPLES)
@click.argument("name")
@experiments_option
def start(name: str, experiments: Path) -> None:
    """Set an experiment running."""
    from twinspire.experiments import store

    started = store.start(experiments, name)
    until = f", until {started.end:%Y-%m-%d %H:%M}" if started.end else ""
    click.echo(f"{name} runs from {started.start:%Y-%m-%d %H:%M} UTC{until}")


@command.command(epilog=STOP_EXAMPLES)
@click.argument("name")
@experiments_option
@click.option("--events", type=click.Path(path_type=Path), help="Folder of events, for --promote.")
@click.option("--reason", default="", help="Kept with the decision.")
@click.option("--promote", is_flag=True, help="Make the winner the registry's champion first, through its gates.")
@click.option("--data", type=click.Path(path_type=Path), help="Dataset that the gates judge on, for --promote.")
def stop(name: str, experiments: Path, events: Path | None, reason: str, promote: bool, data: Path | None) -> None:
    """Stop an experiment: from now on all who are in it get the control."""
    from twinspire.experiments import store

    if promote:
        if events is None or data is None:
            raise click.UsageError("--promote needs --events and --data")
        from twinspire.experiments.analysis import analyse
        from twinspire.experiments.promotion import promote as promote_winner

        _, experiment = store.find_running(experiments, name)
        champion = promote_winner(experiment, analyse(events, experiment), data)
        reason = f"{reason}; {champion} promoted" if reason else f"{champion} promoted"
        click.echo(f"{champion} is the champion")
    control = store.stop(experiments, name, reason).control
    given = [f"{key}={value}" for key, value in control.parameters if key in control.parameters.model_fields_set]
    what = " with ".join([control.bundle or "the server's bundle", *([", ".join(given)] if given else [])])
    click.echo(f"{name} is stopped; all who are in it get its control, {control.name}: {what}")
    if control.bundle or given:
        click.echo("others get the server's default; edit the control where all should get the same")


@command.command(epilog=REPORT_EXAMPLES)
@click.argument("name")
@experiments_option
@events_option
@click.option("--out", type=click.Path(path_type=Path), help="Write the report as an HTML page that needs no network.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--until", type=click.DateTime(), help="Leave out later events, in UTC.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 where someone should act.")
@click.pass_context
def report(
    ctx: click.Context,
    name: str,
    experiments: Path,
    events: Path,
    out: Path | None,
    as_json: bool,
    until: datetime | None,
    exit_code: bool,
) -> None:
    """Say what to do with an experiment, and why."""
    from rich.console import Console

    _, experiment = _find(experiments, name)
    limit = until.replace(tzinfo=UTC) if until is not None else None
    with Console(stderr=True).status("reading events"):
        found, shown, page = _answer(events, experiment, limit)
    if out is not None:
        from twinspire.cli.tables import write_text

        write_text(page(), out)
    click.echo(found.model_dump_json(indent=2)) if as_json else Console(highlight=False).print(shown)
    if out is not None and not as_json:
        click.echo(f"\n{out}")
    if exit_code and found.verdict.alarm:
        ctx.exit(1)


def _answer(
    events: Path, experiment: Experiment, until: datetime | None
) -> tuple[Report | Preference, RenderableType, Callable[[], str]]:
    """The report, what is printed of it, and what makes its page."""
    from twinspire.experiments import page, preference_page, table

    if experiment.kind == "interleave":
        from twinspire.experiments.preference import preference

        preferred = preference(events, experiment, until=until)
        return preferred, table.render_preference(preferred), lambda: preference_page.render(preferred)
    from twinspire.experiments.analysis import analyse

    found = analyse(events, experiment, until=until)
    return found, table.render(found), lambda: page.render(found)


@command.command(epilog=WATCH_EXAMPLES)
@experiments_option
@events_option
@click.option("--every", default=60.0, show_default=True, type=click.FloatRange(1), help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Look once, and exit.")
def watch(experiments: Path, events: Path, every: float, once: bool) -> None:
    """Look at the guardrails of all running experiments, and stop arms that break one."""
    from twinspire.experiments.watch import look

    while True:
        for line in look(experiments, events):
            click.echo(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}")
        if once:
            return
        time.sleep(every)


def _find(experiments: Path, name: str) -> tuple[Path, Experiment]:
    from twinspire.experiments import store

    return store.find(experiments, name)
