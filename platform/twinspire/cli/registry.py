"""`twinspire registry`: bundles in the MLflow model registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from twinspire.cli import options

if TYPE_CHECKING:
    from twinspire.evaluation.comparison import Comparison
    from twinspire.registry import Decision

EXAMPLES = """\b
Examples:
  twinspire registry register --bundle bundles/shop --name shop --alias champion --report report.json
  twinspire registry list
  twinspire registry show shop@champion
  twinspire registry promote shop 3 --data shop
  twinspire registry rollback shop --reason "fewer carts since noon"
  twinspire registry diff shop/3 shop@champion --data shop --html diff.html
  twinspire serve --bundle models:/shop@champion
MLflow is where MLFLOW_TRACKING_URI says, else the file mlflow.db in this folder.
Served bundles are downloaded once, into TWINSPIRE_CACHE, else ~/.cache/twinspire.
"""

REGISTER_EXAMPLES = """\b
Examples:
  twinspire registry register --bundle bundles/shop --name shop
  twinspire registry register --bundle bundles/shop --name shop --alias champion
  twinspire evaluate --bundle bundles/shop --data shop --out report.json
  twinspire registry register --bundle bundles/shop --name shop --report report.json
"""

LIST_EXAMPLES = """\b
Examples:
  twinspire registry list
  twinspire registry list shop
"""

SHOW_EXAMPLES = """\b
Examples:
  twinspire registry show shop@champion
  twinspire registry show shop/3
"""

PROMOTE_EXAMPLES = """\b
Examples:
  twinspire registry promote shop 3 --data shop
  twinspire registry promote shop challenger --data shop --config gates.yaml
  twinspire registry promote shop 3 --data shop --set gates.metrics=[mrr,recall@10] --set gates.min_gain=-0.002
  twinspire registry diff shop/3 shop@champion --data shop --out comparison.json
  twinspire registry promote shop 3 --report comparison.json
  twinspire registry promote shop 2 --force "the last good one, before the season"
Gates and their defaults are the section `gates` of a config:
  metrics=[mrr] min_gain=0 certain=true   better than the champion, by the low end of the paired interval
  worst_slice=0.05 slice_queries=30       no slice of queries loses more; smaller ones are not judged
  min_cases=100                           later clicks that a verdict needs
  floors={} such as {recall@10: 0.5}      the least of a metric, with or without a champion
  min_recall=0.9 max_p99_ms=100 max_gib=32 canaries=true
A model without a champion has only the gates that need none.
"""

ROLLBACK_EXAMPLES = """\b
Examples:
  twinspire registry rollback shop
  twinspire registry rollback shop --reason "fewer carts since noon"
"""

HISTORY_EXAMPLES = """\b
Examples:
  twinspire registry history shop
"""

DIFF_EXAMPLES = """\b
Examples:
  twinspire registry diff shop/3 shop@champion
  twinspire registry diff shop/3 shop@champion --data shop --html diff.html
  twinspire registry diff bundles/new shop@champion --data shop --out comparison.json --no-mlflow
Without --data it shows the registered figures side by side. Clicks later than the training of both are compared.
"""


@click.group(name="registry", epilog=EXAMPLES)
def command() -> None:
    """Register bundles with MLflow, compare, promote and roll them back."""


@command.command(epilog=REGISTER_EXAMPLES)
@click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Bundle folder; verified first.")
@click.option("--name", required=True, help="The registered model's name; made where it is new.")
@click.option("--alias", help="Point this alias at the version, such as champion.")
@click.option(
    "--report", type=click.Path(path_type=Path), help="What `twinspire evaluate --out` wrote; its figures are kept."
)
def register(bundle: Path, name: str, alias: str | None, report: Path | None) -> None:
    """Register a bundle as a new version of a model.

    A bundle that the model already has keeps its version; alias and figures are set all the same.
    """
    from rich.console import Console

    with Console(stderr=True).status("starting"):
        from twinspire import registry
    with Console(stderr=True).status("verifying and uploading"):
        version = registry.register(bundle, name, alias=alias, report=report)
    click.echo(version.uri + (f", alias {', '.join(version.aliases)}" if version.aliases else ""))


@command.command(name="list", epilog=LIST_EXAMPLES)
@click.argument("name", required=False)
def list_command(name: str | None) -> None:
    """List the registered bundles, or those of NAME."""
    from rich.console import Console

    from twinspire import registry
    from twinspire.cli.registry_tables import versions_table

    versions = registry.list_versions(name)
    if not versions:
        click.echo("no bundles are registered; see `twinspire registry register --help`")
        return
    Console(highlight=False).print(versions_table(versions))


@command.command(epilog=SHOW_EXAMPLES)
@click.argument("version", metavar="NAME@ALIAS|NAME/VERSION")
def show(version: str) -> None:
    """Show one version: what it was made from, and its figures."""
    from rich.console import Console

    from twinspire import registry
    from twinspire.cli.registry_tables import details_table, figures_table

    details = registry.show(version)
    Console(highlight=False).print(details_table(details.version), figures_table(details.metrics))


@command.command(epilog=PROMOTE_EXAMPLES)
@click.argument("name")
@click.argument("version", metavar="VERSION|ALIAS")
@click.option("--data", type=click.Path(path_type=Path), help="Dataset folder with later clicks or judgements.")
@click.option("--report", type=click.Path(path_type=Path), help="What `diff --out` wrote, instead of --data.")
@click.option("--config", "source", help="A YAML file, or a named config; its sections `gates` and `dataset` are read.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="One setting, such as gates.min_gain=0.01.")
@click.option("--force", metavar="REASON", help="Promote whatever the gates say; the reason is kept.")
@options.quarantine
def promote(
    name: str,
    version: str,
    data: Path | None,
    report: Path | None,
    source: str | None,
    settings: tuple[str, ...],
    force: str | None,
    quarantine: Path | None,
) -> None:
    """Judge a version against the champion; where every gate passes, make it the champion.

    The champion before becomes `previous`. The decision is kept in MLflow, a refusal too: as tags of the version, and
    with the comparison as files of its run. A refusal exits with 1.
    """
    from rich.console import Console

    if data is not None and report is not None:
        raise click.UsageError("give --data or --report, not both")
    if data is None and report is None and force is None:
        raise click.UsageError("give --data DIR (or --report FILE) to judge by, or --force REASON to promote unjudged")
    if force is not None and not force.strip():
        raise click.UsageError("--force: give the reason; it is kept")
    with Console(stderr=True).status("starting"):
        from twinspire import registry
        from twinspire.config import load_config
    config = load_config(source, settings)
    if data is None and report is None:
        decision = registry.unjudged(name, version)
    else:
        comparison = registry.read_comparison(report) if report is not None else None
        decision = registry.judge(
            name,
            version,
            data,
            comparison=comparison,
            gates=config.gates,
            quarantine=quarantine,
            max_bad_share=config.dataset.max_bad_share,
            show_progress=True,
        )
    _say(decision)
    if not decision.passed and force is None:
        stays = f"{decision.champion} stays champion" if decision.champion else "there is still no champion"
        click.echo(f"{decision.candidate} is refused; {stays}")
        raise click.exceptions.Exit(1)
    champion = registry.promote(decision, force=force)
    before = f", {decision.champion} is previous" if decision.champion else ""
    click.echo(f"{champion.uri} is champion{before}" + (f"; forced: {force}" if not decision.passed else ""))


@command.command(epilog=ROLLBACK_EXAMPLES)
@click.argument("name")
@click.option("--reason", default="", help="Why; it is kept.")
def rollback(name: str, reason: str) -> None:
    """Let `champion` and `previous` change places, at once and without gates. Twice is as if never."""
    from twinspire import registry

    champion = registry.rollback(name, reason=reason)
    click.echo(f"{champion.uri} is champion again")


@command.command(epilog=HISTORY_EXAMPLES)
@click.argument("name")
def history(name: str) -> None:
    """Show who changed the champion of NAME, when and why, the newest first."""
    from rich.console import Console

    from twinspire import registry
    from twinspire.cli.registry_tables import history_table

    Console(highlight=False).print(history_table(name, registry.history(name)))


@command.command(epilog=DIFF_EXAMPLES)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--data", type=click.Path(path_type=Path), help="Dataset folder with later clicks or judgements.")
@click.option("--html", type=click.Path(path_type=Path), help="Page to write; it needs no network.")
@click.option("--out", type=click.Path(path_type=Path), help="JSON to write; `promote --report` takes it.")
@click.option("--max-cases", default=20_000, show_default=True, type=click.IntRange(1), help="More clicks are sampled.")
@click.option("--mlflow/--no-mlflow", default=True, show_default=True, help="Keep page and JSON with A's run.")
@options.quarantine
@options.max_bad_share
def diff(
    first: str,
    second: str,
    data: Path | None,
    html: Path | None,
    out: Path | None,
    max_cases: int,
    mlflow: bool,
    quarantine: Path | None,
    max_bad_share: float,
) -> None:
    """Compare A with B (NAME@ALIAS, NAME/VERSION, a bundle's folder): figures, slices, changed results, latency."""
    from rich.console import Console

    if data is None and (html is not None or out is not None):
        raise click.UsageError("--html and --out need --data, the clicks to compare on")
    with Console(stderr=True).status("starting"):
        from twinspire import registry
        from twinspire.cli.registry_tables import figures_side_by_side
        from twinspire.evaluation import EvaluationConfig
    if data is None:
        Console(highlight=False).print(figures_side_by_side(registry.show(first), registry.show(second)))
        return
    comparison = registry.compare_versions(
        first,
        second,
        data,
        config=EvaluationConfig(max_cases=max_cases),
        quarantine=quarantine,
        max_bad_share=max_bad_share,
        show_progress=True,
    )
    _show(comparison)
    _write(comparison, html, out)
    if mlflow and not is_bundle(first):
        click.echo(f"kept with MLflow run {registry.keep_comparison(comparison, first)}")


def is_bundle(source: str) -> bool:
    """Whether it is a bundle's folder, and no registered version."""
    return (Path(source) / "manifest.json").is_file()


def _say(decision: Decision) -> None:
    from twinspire.cli.registry_tables import gate_lines

    for passed, line in gate_lines(decision):
        click.echo(line if passed else click.style(line, fg="red"))


def _show(comparison: Comparison) -> None:
    from rich.console import Console

    from twinspire.cli.registry_tables import changes_table, sides_table
    from twinspire.evaluation import render

    console = Console(highlight=False)
    console.print(render(comparison.report))
    console.print(sides_table(comparison))
    if comparison.changes:
        console.print(changes_table(comparison))


def _write(comparison: Comparison, html: Path | None, out: Path | None) -> None:
    from twinspire.cli.tables import write_text
    from twinspire.evaluation.figures.comparison import comparison_page

    if html is not None:
        write_text(comparison_page(comparison), html)
        click.echo(f"page: {html}")
    if out is not None:
        write_text(comparison.model_dump_json(indent=1), out)
        click.echo(f"report: {out}")
