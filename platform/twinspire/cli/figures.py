"""`twinspire figures`."""

from __future__ import annotations

from pathlib import Path

import click

from twinspire.cli import options

EXAMPLES = """\b
Examples:
  twinspire figures --bundle bundles/shop --out figures
  twinspire figures --bundle bundles/shop --out figures --query apple --query samsung --by brand
Writes items.png, heads.png, recall.png where the index was tuned, and figures.html, which needs no network, and keeps
them with the bundle's MLflow run, or with a run of their own where MLFLOW_TRACKING_URI does not have it.
"""


@click.command(epilog=EXAMPLES)
@options.bundle
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write the pictures into.")
@options.queries("A query whose heads are drawn")
@click.option("--by", help="Column that tells items apart; default category, else brand.")
@options.level
@click.option("--size", default=5000, show_default=True, type=click.IntRange(5, 50_000), help="Items placed.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same pictures.")
@click.option("--mlflow/--no-mlflow", default=True, show_default=True, help="Keep the pictures with an MLflow run.")
def command(
    bundle: Path, out: Path, queries: tuple[str, ...], by: str | None, level: int, size: int, seed: int, mlflow: bool
) -> None:
    """Draw a bundle's items by category, and where the results of each head of some queries lie."""
    from pipelines.figures import draw_bundle, log_figures
    from twinspire.bundle import Manifest

    paths = draw_bundle(bundle, out, queries, column=by, level=level, size=size, seed=seed)
    for path in paths:
        click.echo(str(path))
    if mlflow:
        manifest = Manifest.read(bundle)
        run = log_figures(paths, manifest.name, manifest.mlflow_run_id)
        click.echo(f"kept with MLflow run {run}")
