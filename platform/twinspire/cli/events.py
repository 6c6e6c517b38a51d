"""`twinspire events`: what a server has kept, and parts of what one that was killed has left."""

from __future__ import annotations

from pathlib import Path

import click

EXAMPLES = """\b
Examples:
  twinspire events --events events
"""


@click.command(epilog=EXAMPLES)
@click.option("--events", type=click.Path(path_type=Path), required=True, help="The folder of `serve --events`.")
def command(events: Path) -> None:
    """Count exposures and interactions, and make Parquet parts of what servers that were killed have left.

    A running server does the same by itself for those that shared its folder, so this is for when none runs: before a
    training on the log, say. Each event is in the table once however often it was told. Bytes behind the last whole row
    of a file, which a loss of power leaves, are put aside in EVENTS/.wal/torn.
    """
    import polars as pl

    from twinspire.errors import EnvironmentProblem
    from twinspire.experiments.compact import TORN, Compactor
    from twinspire.experiments.journal import FOLDER, SUFFIX
    from twinspire.experiments.tables import TABLES

    if not events.is_dir():
        raise EnvironmentProblem(f"{events}: no folder there; `twinspire serve --events DIR` makes one")
    try:
        done = Compactor(events).run()
    except OSError as error:
        raise EnvironmentProblem(f"{events}: the parts cannot be written ({error.strerror}); nothing is lost") from None
    for table in TABLES:
        files = sorted((events / table).glob("[!.]*.parquet"))
        rows = pl.scan_parquet(files, glob=False).select(pl.len()).collect().item() if files else 0
        open_ = len(list((events / FOLDER).glob(f"{table}-*{SUFFIX}")))
        beside = f", and {open_} files that servers still write to" if open_ else ""
        click.echo(f"{table:13} {rows:,} rows in {len(files):,} parts{beside}")
    if done.parts:
        click.echo(f"recovered     {done.rows:,} rows; {done.repeated:,} told again and left out")
    if done.torn:
        click.echo(f"cut           {done.torn:,} bytes that are no whole row, put aside in {events / FOLDER / TORN}")
