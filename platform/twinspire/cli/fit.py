"""`twinspire fit`."""

from __future__ import annotations

from pathlib import Path

import click

from twinspire.cli import options

EXAMPLES = """\b
Examples:
  twinspire fit --data shop --out bundles/shop
  twinspire fit --data shop --out bundles/taught --teacher all-MiniLM-L6-v2
  twinspire fit --data shop --out bundles/paper --config dpsr-paper
  twinspire fit --data shop --out bundles/wide --set model.dim=128 --set log.holdout_days=10
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Dataset folder: items, optional interactions (clicks), users.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Bundle folder to write; an older bundle there is replaced.",
)
@click.option("--config", "source", help="A YAML file, or a named config such as dpsr-paper.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change one setting; may be repeated.",
)
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    help="Folder of a sentence encoder (sentence-transformers) that the towers learn from before the clicks.",
)
@options.quarantine
def command(
    data: Path, out: Path, source: str | None, settings: tuple[str, ...], teacher: Path | None, quarantine: Path | None
) -> None:
    """Train on a dataset and write a bundle: validate, encode, train, embed, index."""
    from pipelines.fit import fit
    from twinspire.config import load_config

    manifest = fit(data, out, load_config(source, settings), quarantine=quarantine, teacher=teacher)
    index = manifest.index
    click.echo(
        f"bundle {out}: {manifest.items:,} items, D {manifest.dimensions}, index {index.factory}, "
        f"recall@100 {index.recall_at_100:.3f}{_measured(manifest.training['best_mrr'])}"
    )


def _measured(mrr: float | None) -> str:
    return "" if mrr is None else f", validation MRR {mrr:.3f}"
