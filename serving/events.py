"""What is kept of a server's traffic: exposures and outcomes, durably, off the event loop.

An outcome is acknowledged when its bytes are on the disk; one sync serves all that waited for it. An exposure is
written before its answer goes out and synced soon after: the death of the process loses none, a loss of power at most
those of the last SYNC_S seconds. A thread of low priority makes Parquet parts of both.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serving.worker import BatchWorker
from twinspire.experiments.compact import Compacted, Compactor
from twinspire.experiments.journal import FOLDER, Journal
from twinspire.experiments.tables import EXPOSURES_FOLDER, INTERACTIONS_FOLDER

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

SYNC_S = 0.2
LOOK_S = 15.0  # between two looks for segments that servers which died have left, and after a full disk
MOST_A_SYNC = 1000  # requests whose outcomes one sync serves
NICENESS = 10  # of the thread that compacts
TABLES = (EXPOSURES_FOLDER, INTERACTIONS_FOLDER)

logger = logging.getLogger(__name__)


class EventLog:
    """The events of one replica, in a folder that it may share with others; made with the first event."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.written = dict.fromkeys(TABLES, 0)
        self.failed = dict.fromkeys(TABLES, 0)
        self.compacted = Compacted()
        self.problem = ""  # why the last compaction or sync did not end well
        self._journals = {table: Journal(self.folder, table) for table in TABLES}
        self._compactor = Compactor(self.folder)
        self._outcomes: BatchWorker[list[bytes], None] = BatchWorker(
            self._write, max_batch=MOST_A_SYNC, name="outcomes"
        )
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="events", daemon=True)

    def start(self) -> None:
        """Sync and compact from now on; first what servers that were killed have left."""
        self._keeper.start()

    def record(self, outcomes: list[bytes]) -> asyncio.Future[None]:
        """Keep rows of `interactions`; the future is done once they are on the disk, or raises OSError."""
        return self._outcomes.submit(outcomes)

    def expose(self, exposures: Sequence[bytes]) -> None:
        """Keep rows of `exposures`. What cannot be written is counted: an answer does not fail for it."""
        try:
            self._journals[EXPOSURES_FOLDER].append(exposures, sync=False)
        except OSError as error:
            self.failed[EXPOSURES_FOLDER] += len(exposures)
            self._tell(error)
        else:
            self.written[EXPOSURES_FOLDER] += len(exposures)

    @property
    def waiting(self) -> dict[str, int]:
        """Rows, by table, that are safe and in no part yet."""
        return {table: journal.waiting for table, journal in self._journals.items()}

    def close(self) -> None:
        """Write what waits, and make parts of it."""
        self._outcomes.stop()
        self._stop.set()
        if self._keeper.is_alive():
            self._keeper.join()
        with contextlib.suppress(OSError):
            for journal in self._journals.values():
                journal.rotate()
            if (self.folder / FOLDER).is_dir():
                self._compactor.run()

    def status(self) -> dict[str, Any]:
        """For /v1/status."""
        return {
            table: {"written": self.written[table], "waiting": self.waiting[table], "failed": self.failed[table]}
            for table in TABLES
        } | {"folder": str(self.folder), "repeated": self.compacted.repeated, "problem": self.problem}

    def _write(self, told: list[list[bytes]]) -> Sequence[None]:
        rows = [row for one in told for row in one]
        try:
            self._journals[INTERACTIONS_FOLDER].append(rows, sync=True)
        except OSError:
            self.failed[INTERACTIONS_FOLDER] += len(rows)
            raise
        self.written[INTERACTIONS_FOLDER] += len(rows)
        return [None] * len(told)

    def _keep(self) -> None:
        if hasattr(os, "setpriority") and hasattr(threading, "get_native_id"):  # Linux: of this thread alone
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        due = time.monotonic()  # when to compact
        while True:
            try:
                self._journals[EXPOSURES_FOLDER].sync()
                for journal in self._journals.values():
                    if journal.due():
                        journal.rotate()
                        due = 0.0
                if time.monotonic() >= due:
                    due = time.monotonic() + LOOK_S
                    self._compact()
                    self.problem = ""
            except OSError as error:
                self._tell(error)
            except Exception as error:
                self._tell(error)
                logger.exception("the events could not be made into parts")
            if self._stop.wait(SYNC_S):
                return

    def _compact(self) -> None:
        if (self.folder / FOLDER).is_dir():
            done = self._compactor.run()
            for name, number in vars(done).items():
                setattr(self.compacted, name, getattr(self.compacted, name) + number)

    def _tell(self, error: Exception) -> None:
        reason = f"{self.folder}: {getattr(error, 'strerror', None) or error}"
        if reason != self.problem:
            logger.error("events: %s", reason)
        self.problem = reason
