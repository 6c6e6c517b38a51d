"""Segments of the write-ahead files become Parquet parts, each row exactly once, whatever is killed and when.

The part of a segment has the segment's name. It is written beside, synced and renamed, and then the segment goes: a
segment whose part is there already has only its going left. One process compacts at a time, so an event that was told
twice, to two replicas or after a lost answer, is found in the parts that are there, and not written again.
"""

from __future__ import annotations

import fcntl
import io
import logging
import os
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from twinspire.experiments.journal import BESIDE, FOLDER, SUFFIX, Abandoned
from twinspire.experiments.tables import INTERACTIONS_FOLDER, TABLES, table_of
from twinspire.files import flush

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

RETRY_DAYS = 30.0  # an event that is told again later counts again
NAMED_WITHIN_S = 60.0
TORN = "torn"  # a folder beside the segments for what was behind their last whole rows

logger = logging.getLogger(__name__)


@dataclass
class Compacted:
    """What one run did: parts written, their rows, events left out because they were there, bytes cut from segments."""

    parts: int = 0
    rows: int = 0
    repeated: int = 0
    torn: int = 0


class Compactor:
    """Compacts the segments of an events folder; remembers which events its parts have. One thread at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._segments = folder, folder / FOLDER
        self._hashes: dict[str, NDArray[np.uint64]] = {}  # of the events of each part, sorted

    def run(self) -> Compacted:
        """Make parts of all segments that no process writes to.

        Errors: OSError, where there is no space or no right; what is not done stays to be done.
        """
        done = Compacted()
        if not self._segments.is_dir():
            return done
        with self._alone():
            self._tidy()
            for path in sorted(self._segments.glob(f"*{SUFFIX}")):
                with Abandoned(path) as segment:
                    if segment.held:
                        self._compact(segment, done)
        return done

    def _tidy(self) -> None:
        """Remove what a killed compaction left, and segments that were killed before they had a name."""
        for beside in self._folder.glob(f"*/.*.parquet{BESIDE}"):
            beside.unlink()
        for beside in self._segments.glob(f".*{SUFFIX}{BESIDE}"):
            if time.time() - beside.stat().st_mtime > NAMED_WITHIN_S:
                beside.unlink()

    def _compact(self, segment: Abandoned, done: Compacted) -> None:
        table, _, rest = segment.path.stem.partition("-")
        part = self._folder / table / f"{rest}.parquet"
        if not part.exists():
            rows = table_of(segment.rows, TABLES[table])
            if table == INTERACTIONS_FOLDER:
                kept = self._new(rows)
                done.repeated += len(rows) - len(kept)
                rows = kept
            if len(rows):
                _write(rows, part)
                done.parts += 1
                done.rows += len(rows)
        if segment.torn:
            done.torn += len(segment.torn)
            aside = self._segments / TORN
            aside.mkdir(exist_ok=True)
            (aside / segment.path.name).write_bytes(segment.torn)
            cut = len(segment.torn)
            logger.warning("%s: its last %d bytes are no whole row; they are in %s", segment.path, cut, aside)
        segment.path.unlink()
        flush(self._segments)

    def _new(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The events that no part has, each once."""
        rows = rows.unique("event_id", keep="first", maintain_order=True)
        self._look()
        hashes = rows["event_id"].hash().to_numpy()
        known: list[str] = []
        for name, held in self._hashes.items():
            hit = held[np.minimum(np.searchsorted(held, hashes), len(held) - 1)] == hashes
            if hit.any():  # nearly always the same event, but another one may have the same hash
                ids = _ids(self._folder / INTERACTIONS_FOLDER / name)
                suspects = rows["event_id"].filter(pl.Series(hit))
                known += suspects.filter(suspects.is_in(ids.implode())).to_list()
        return rows.filter(~pl.col("event_id").is_in(known)) if known else rows

    def _look(self) -> None:
        """Learn of the parts that are new, forget those that are gone or old."""
        oldest = time.time() - RETRY_DAYS * 86_400
        folder = self._folder / INTERACTIONS_FOLDER
        names = {path.name for path in folder.glob("[!.]*.parquet") if path.stat().st_mtime >= oldest}
        self._hashes = {name: held for name, held in self._hashes.items() if name in names}
        for name in names - set(self._hashes):
            columns = pl.scan_parquet(folder / name, glob=False).collect_schema()
            if "event_id" in columns:  # a log of another origin may stand beside
                ids = _ids(folder / name).drop_nulls()
                if len(ids):
                    self._hashes[name] = np.sort(ids.hash().to_numpy())

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._segments / "compact.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _ids(part: Path) -> pl.Series:
    return pl.read_parquet(part, columns=["event_id"], glob=False)["event_id"]


def _write(rows: pl.DataFrame, part: Path) -> None:
    part.parent.mkdir(exist_ok=True)
    beside = part.with_name(f".{part.name}{BESIDE}")
    content = io.BytesIO()  # to a file, Polars hides why it cannot write
    rows.write_parquet(content)
    try:
        with beside.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        beside.rename(part)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    flush(part.parent)
