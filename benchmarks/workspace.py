"""Where a benchmark that fits and registers keeps what it makes."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def workspace(given: Path | None, name: str) -> Iterator[Path]:
    """The folder `given`, which stays, or one for this run alone; MLflow's store of this process lies in it."""
    with ExitStack() as stack:
        folder = given or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{name}-")))
        folder = folder.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder / 'mlflow.db'}"
        yield folder
