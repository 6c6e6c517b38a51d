"""Feedback as JSON lines: a file for each start of a replica, on disk before the caller hears so."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import orjson

from serving.worker import BatchWorker

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from typing import BinaryIO

    from serving.schema import Feedback


class FeedbackLog:
    """Appends to `feedback-<start>-<random>.jsonl` in `folder`, which is made with the first event.

    One flush and fsync serves all events that waited, so many callers cost little more than one.
    """

    def __init__(self, folder: str | Path) -> None:
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.path = Path(folder) / f"feedback-{stamp}-{uuid4().hex[:8]}.jsonl"
        self._file: BinaryIO | None = None
        self._worker: BatchWorker[dict[str, Any], str] = BatchWorker(self._append, max_batch=1000, name="feedback")

    def record(self, feedback: Feedback) -> asyncio.Future[str]:
        """Queue one event; the future gives its event id once it is on disk, or raises OSError."""
        event_id = feedback.event_id or uuid4().hex
        line = {"received": datetime.now(UTC), **feedback.model_dump(exclude_none=True), "event_id": event_id}
        return self._worker.submit(line)

    def close(self) -> None:
        """Write what waits and close the file."""
        self._worker.stop()
        if self._file is not None:
            self._file.close()

    def _append(self, events: list[dict[str, Any]]) -> Sequence[str]:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab")
        self._file.write(b"".join(orjson.dumps(e, option=orjson.OPT_APPEND_NEWLINE) for e in events))
        self._file.flush()
        os.fsync(self._file.fileno())
        return [event["event_id"] for event in events]
