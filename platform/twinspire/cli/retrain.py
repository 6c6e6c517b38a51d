"""`twinspire retrain`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from twinspire.cli import options

if TYPE_CHECKING:
    from pipelines.retrain import Outcome

REFUSED = 3
EXAMPLES = """\b
Examples:
  twinspire retrain --data shop --name shop --out retrain
  twinspire retrain --data shop --name shop --out retrain --set training.start=full --set gates.min_gain=0
Exit codes: 0 promoted, now or by an earlier run on the same data and config; 3 refused, the champion stays, a line for
each reason; 2 an error, to be mended and run again.
"""


@click.command(epilog=EXAMPLES)
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Dataset folder with the newest log.")
@click.option("--name", required=True, help="The registered model; made where it is new.")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Folder for the attempt's bundle; an older one goes."
)
@click.option("--config", "source", help="A YAML file, or a named config such as dpsr-paper.")
@click.option(
    "--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated."
)
@click.option("--teacher", type=click.Path(path_type=Path), help="Folder of a sentence encoder; see `twinspire fit`.")
@options.quarantine
def command(
    data: Path,
    name: str,
    out: Path,
    source: str | None,
    settings: tuple[str, ...],
    teacher: Path | None,
    quarantine: Path | None,
) -> None:
    """The daily loop: validate, fit, evaluate against the champion, register, and promote or refuse.

    The log's newest day is held out of the fit, and the candidate must be as good on it as the champion. Safe to be
    killed and run again, and to be run twice.
    """
    from pipelines.retrain import retrain
    from twinspire.config import load_config

    outcome = retrain(data, name, out, load_config(source, settings), teacher=teacher, quarantine=quarantine)
    for line in _lines(outcome):
        click.echo(line)
    if outcome.kind == "refused":
        sys.exit(REFUSED)


def _lines(outcome: Outcome) -> list[str]:
    stays = f"{outcome.champion} stays champion" if outcome.champion else "there is no champion"
    if outcome.version is None:
        return [f"refused: the log; {stays}", *(f"  {reason}" for reason in outcome.reasons)]
    uri = outcome.version.uri
    if outcome.kind == "refused":
        before = ", by an earlier run on the same data and config" if outcome.again else ""
        return [f"refused: {uri}{before}; {stays}", *(f"  {reason}" for reason in outcome.reasons)]
    if outcome.again:
        now = "" if outcome.champion == uri else f"; champion now is {outcome.champion}"
        return [f"{uri} is of the same data and config, and was promoted; nothing to do{now}"]
    after = f" after {outcome.champion}" if outcome.champion else ", the first"
    return [f"promoted: {uri} is champion{after}"]
