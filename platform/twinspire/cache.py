"""Where what can be made again is kept on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """`TWINSPIRE_CACHE`, else `twinspire` in the user's cache folder (`XDG_CACHE_HOME`, by default `~/.cache`)."""
    if given := os.environ.get("TWINSPIRE_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "twinspire"
