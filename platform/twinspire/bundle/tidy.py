"""What a process that was killed while it wrote a bundle left behind."""

from __future__ import annotations

import glob
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def tidy(target: Path) -> None:
    """Remove what a killed `write_bundle` left beside `target`, and put back an older bundle that it had moved away.

    Nobody else may be writing `target`.
    """
    for path in target.parent.glob(f".{glob.escape(target.name)}.*"):
        process, _, kind = path.name.removeprefix(f".{target.name}.").partition(".")
        if not process.isdecimal() or kind not in ("new", "old"):
            continue
        if kind == "old" and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)
