"""`twinspire registry`: bundles in the MLflow model registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from twinspire.registry import Version

EXAMPLES = """\b
Examples:
  twinspire registry register --bundle bundles/shop --name shop --alias champion --report report.json
  twinspire registry list
  twinspire registry show shop@champion
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


@click.group(name="registry", epilog=EXAMPLES)
def command() -> None:
    """Register bundles with MLflow, list and show them."""


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

    versions = registry.list_versions(name)
    if not versions:
        click.echo("no bundles are registered; see `twinspire registry register --help`")
        return
    Console(highlight=False).print(_table(versions))


@command.command(epilog=SHOW_EXAMPLES)
@click.argument("version", metavar="NAME@ALIAS|NAME/VERSION")
def show(version: str) -> None:
    """Show one version: what it was made from, and its figures."""
    from rich.console import Console

    from twinspire import registry

    details = registry.show(version)
    Console(highlight=False).print(_details(details.version), _figures(details.metrics))


def _table(versions: list[Version]) -> Table:
    from rich.table import Table

    table = Table("model", title="Registered bundles")
    table.add_column("version", justify="right")
    table.add_column("aliases", style="bold")
    table.add_column("items", justify="right")
    for column in ("trained until", "registered"):
        table.add_column(column)
    for version in versions:
        table.add_row(
            version.name,
            str(version.version),
            ", ".join(version.aliases),
            f"{int(version.tags['items']):,}",
            version.tags.get("trained_until", "")[:16].replace("T", " "),
            f"{version.created:%Y-%m-%d %H:%M}",
        )
    return table


def _details(version: Version) -> Table:
    from rich.table import Table

    table = Table("key", title=version.uri, show_header=False)
    table.add_column("value", overflow="fold")
    for key, value in (
        ("aliases", ", ".join(version.aliases)),
        ("registered", f"{version.created:%Y-%m-%d %H:%M:%S} UTC"),
        ("MLflow run", version.run_id),
        *sorted((key.replace("_", " "), value) for key, value in version.tags.items()),
    ):
        table.add_row(key, value, style="bold" if key == "aliases" else None)
    return table


def _figures(metrics: dict[str, float]) -> Table:
    from rich.table import Table

    table = Table("metric", title="Figures")
    table.add_column("value", justify="right")
    for key, value in metrics.items():
        table.add_row(key, f"{value:,.4g}")
    return table
