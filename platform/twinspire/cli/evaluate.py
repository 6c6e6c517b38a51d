"""`twinspire evaluate`."""

from __future__ import annotations

from pathlib import Path

import click

from twinspire.cli import options

EXAMPLES = """\b
Examples:
  twinspire fit --data shop --out bundles/shop --set log.holdout_days=10
  twinspire evaluate --bundle bundles/shop --data shop --out report.json
  twinspire evaluate --bundle bundles/shop --against bundles/paper --encoder minilm --data shop --out report.json
Cases are the clicks later than every bundle's training; the earlier ones feed the baselines.
"""


@click.command(epilog=EXAMPLES)
@options.bundle
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Dataset folder with later clicks or judgements."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="JSON report to write.")
@click.option(
    "--against",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Another bundle of the same catalogue, named by its folder; may be repeated.",
)
@click.option(
    "--encoder",
    type=click.Path(path_type=Path),
    help="Folder of a sentence encoder (Hugging Face, sentence-transformers); needs twinspire[encoder].",
)
@click.option("--max-cases", default=20_000, show_default=True, type=click.IntRange(1), help="More clicks are sampled.")
@click.option("--seed", default=0, show_default=True, help="Seed of sampling, ties and resamples.")
@options.quarantine
@options.max_bad_share
def command(
    bundle: Path,
    data: Path,
    out: Path,
    against: tuple[Path, ...],
    encoder: Path | None,
    max_cases: int,
    seed: int,
    quarantine: Path | None,
    max_bad_share: float,
) -> None:
    """Compare a bundle with BM25, query memory, popularity and others, by slices of queries, with intervals."""
    from rich.console import Console

    from pipelines.evaluate import evaluate_bundle, log_report
    from twinspire.cli.tables import check_place, write_text
    from twinspire.evaluation import EvaluationConfig, render

    check_place(out)
    config = EvaluationConfig(max_cases=max_cases, seed=seed)
    report = evaluate_bundle(
        bundle, data, config, against=against, encoder=encoder, quarantine=quarantine, max_bad_share=max_bad_share
    )
    Console().print(render(report))
    write_text(report.model_dump_json(indent=2), out)
    click.echo(f"report: {out}")
    if (reason := log_report(bundle, out)) is not None:
        click.echo(f"not logged to MLflow: {reason}", err=True)
