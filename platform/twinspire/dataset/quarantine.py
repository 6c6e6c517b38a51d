"""Where bad rows go: `<folder>/<table>.parquet`, the stored columns as they were, with `row` and `reason`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from twinspire.dataset.checks import FAULT
from twinspire.dataset.schema import TABLES
from twinspire.dataset.source import ROW
from twinspire.errors import DatasetError

if TYPE_CHECKING:
    from twinspire.dataset.checks import Fault
    from twinspire.dataset.source import Source

DEFAULT_FOLDER = "quarantine"


class Quarantine:
    """Where the bad rows of one dataset go. The folder is made when the first bad row needs it.

    Without a folder of the caller's choice it is `<data>/quarantine`, or a temporary one if that cannot be
    written.
    """

    def __init__(self, data: Path, folder: Path | None) -> None:
        self._data = data
        self._chosen = folder
        self._folder: Path | None = None
        if folder is not None and folder.resolve() in {
            data.resolve(),
            *((data / name).resolve() for name in TABLES),
        }:
            raise DatasetError(f"quarantine: {folder} is part of the dataset itself; choose another folder")

    def write(self, source: Source, coded: pl.LazyFrame, found: list[Fault]) -> Path:
        """Stream the bad rows of `coded` (stored columns, ROW, FAULT) to the table's file; returns its path.

        Stored columns named `row` or `reason` are kept as `stored_row` and `stored_reason`.
        """
        path = self._folder_to_write() / f"{source.table.name}.parquet"
        self._refuse_foreign(path)
        reasons = pl.Series([fault.reason for fault in found], dtype=pl.String)
        renamed = [
            pl.col(name).alias(f"stored_{name}" if name in ("row", "reason") else name) for name in source.stored
        ]
        bad = coded.filter(pl.col(FAULT) > 0).select(
            *renamed,
            pl.col(ROW).cast(pl.Int64).alias("row"),
            pl.col(FAULT).replace_strict(range(1, len(found) + 1), reasons, return_dtype=pl.String).alias("reason"),
        )
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            bad.sink_parquet(partial)
            partial.replace(path)
        except OSError as error:
            raise DatasetError(f"quarantine: cannot write {path}: {error.strerror or error}") from error
        finally:
            partial.unlink(missing_ok=True)
        return path

    def clear(self, table: str) -> None:
        """Remove what an earlier reading left for a table that now has no bad row."""
        path = (self._chosen or self._data / DEFAULT_FOLDER) / f"{table}.parquet"
        if path.is_file() and _is_ours(path) and os.access(path.parent, os.W_OK):
            path.unlink()

    def _folder_to_write(self) -> Path:
        if self._folder is None:
            self._folder = self._make(self._chosen or self._data / DEFAULT_FOLDER)
        return self._folder

    def _make(self, folder: Path) -> Path:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            if self._chosen is not None:
                raise DatasetError(f"quarantine: cannot write to {folder}: {error.strerror}") from error
        return Path(tempfile.mkdtemp(prefix="twinspire-quarantine-"))

    @staticmethod
    def _refuse_foreign(path: Path) -> None:
        if path.exists() and not _is_ours(path):
            raise DatasetError(f"quarantine: {path} is there and is no quarantine file; choose another folder")


def _is_ours(path: Path) -> bool:
    try:
        schema = pl.scan_parquet(path, glob=False).collect_schema()
    except (pl.exceptions.PolarsError, OSError):
        return False
    return list(schema)[-2:] == ["row", "reason"]
