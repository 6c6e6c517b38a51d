"""`twinspire validate`: check a dataset and say what is in it."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from twinspire import dataset
from twinspire.cli import options
from twinspire.errors import EnvironmentProblem

EXAMPLES = """\b
Examples:
  twinspire validate --data shop/
  twinspire validate --data shop/ --quarantine /tmp/bad --max-bad-share 0.001
  twinspire validate --data shop/ --require-interactions --json report.json
"""


@click.command(epilog=EXAMPLES)
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder with the tables.")
@click.option(
    "--quarantine",
    type=click.Path(path_type=Path),
    help="Folder for the bad rows.  [default: DATA/quarantine]",
)
@options.max_bad_share
@click.option("--require-interactions", is_flag=True, help="Refuse a dataset without a log, as retrain does.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the report here too.")
def command(
    data: Path,
    quarantine: Path | None,
    max_bad_share: float,
    require_interactions: bool,
    json_file: Path | None,
) -> None:
    """Check a dataset against the table contract.

    Prints the rows, bad rows and their reasons by table, and the span of the log. Bad rows are written to
    QUARANTINE/<table>.parquet with their row number and reason. Exit code 0 if the dataset can be used, else
    2.
    """
    try:
        with Console(stderr=True).status("checking") as status:
            report = dataset.read(
                data,
                max_bad_share=max_bad_share,
                quarantine=quarantine,
                require_interactions=require_interactions,
                progress=lambda table: status.update(f"checking {table}"),
            ).report
    except dataset.BadRowsError as error:
        _tell(error.report, json_file)
        raise
    _tell(report, json_file)


def _tell(report: dataset.Report, json_file: Path | None) -> None:
    Console(highlight=False).print(report)
    if json_file is not None:
        try:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(report.model_dump_json(indent=2) + "\n")
        except OSError as error:
            raise EnvironmentProblem(f"--json: cannot write {json_file}: {error.strerror}") from error
