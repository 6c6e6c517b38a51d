"""`twinspire demo`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import NoReturn

import click

EXAMPLES = """\b
Examples:
  twinspire demo
  twinspire demo --no-wait
"""


@click.command(epilog=EXAMPLES)
@click.option(
    "--dir", "folder", default="demo", show_default=True, type=click.Path(path_type=Path), help="Where it works."
)
@click.option("--wait/--no-wait", default=True, help="Keep serving until Ctrl-C, or end with exit code 0.")
def command(folder: Path, wait: bool) -> None:
    """Simulate a market, train, compare with BM25, register, serve, ask as two shoppers: the whole job in minutes."""
    from pipelines.demo import run_demo

    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    run_demo(folder, wait=wait)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
