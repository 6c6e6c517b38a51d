"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

bundle = click.option("--bundle", required=True, type=click.Path(path_type=Path), help="Bundle folder.")
quarantine = click.option(
    "--quarantine", type=click.Path(path_type=Path), help="Where bad rows are written; default DATA/quarantine."
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
