"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from twinspire.dataset.config import MAX_BAD_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable

bundle = click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Bundle folder.")
quarantine = click.option(
    "--quarantine", type=click.Path(path_type=Path), help="Where bad rows are written; default DATA/quarantine."
)
max_bad_share = click.option(
    "--max-bad-share",
    type=click.FloatRange(0, 1),
    default=MAX_BAD_SHARE,
    show_default=True,
    help="Share of bad rows in a table above which the dataset is refused.",
)
level = click.option(
    "--level", default=2, show_default=True, type=click.IntRange(1), help="Level of a category's path."
)


def queries(what: str) -> Callable[[Any], Any]:
    """`--query`, which may be repeated; `what` says what is done with one."""
    return click.option(
        "--query",
        "queries",
        multiple=True,
        default=("apple", "cellphone"),
        show_default=True,
        help=f"{what}; may be repeated.",
    )
