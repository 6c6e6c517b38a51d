"""Write-ahead files: rows are appended, each with its length and checksum, and survive the process.

A row that is written is safe from the death of the process, one that is synced from the loss of power too. A segment
belongs to one process, which holds a lock on it as long as it lives; a segment that nobody holds is complete, and
`compact` turns it into a part of its table. What a writer was torn from at the end fails its checksum and is cut.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import threading
import time
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from twinspire.files import flush

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

FOLDER, SUFFIX = ".wal", ".wal"
BESIDE = ".new"
MAGIC = b"TWINWAL1"
MAX_BYTES = 64 << 20  # of a segment
MAX_AGE_S = 60.0
LONGEST = 1 << 24  # bytes of a row; a length beyond it is damage
_HEAD = struct.Struct("<II")  # bytes of the row, and their CRC-32


class Journal:
    """The rows of one table, appended by this process. Any thread may append; one at a time rotates and syncs.

    Folder and file are made with the first row. Each is `FOLDER/TABLE-TIME-WRITER-NUMBER.wal`.
    """

    def __init__(self, folder: Path, table: str) -> None:
        self._folder, self._table = folder / FOLDER, table
        self._writer = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid4().hex[:12]}"
        self._number = 0
        self._file: _Segment | None = None
        self._lock = threading.Lock()
        self.waiting = 0  # rows that are in no part yet

    def append(self, rows: Iterable[bytes], *, sync: bool) -> None:
        """Write rows; with `sync` return once they are on the disk. All of them or none.

        Errors: OSError.
        """
        framed = [_HEAD.pack(len(row), zlib.crc32(row)) + row for row in rows]
        with self._lock:
            if self._file is None:
                self._number += 1
                self._file = _Segment(self._folder / f"{self._table}-{self._writer}-{self._number:06}{SUFFIX}")
            try:
                self._file.write(b"".join(framed), sync=sync)
            except OSError:
                if not self._file.sound:
                    self._file.close()
                    self._file = None
                raise
            self.waiting += len(framed)

    def sync(self) -> None:
        """Put on the disk what was appended without. Errors: OSError."""
        file = self._file
        if file is not None:
            file.sync()

    def due(self) -> bool:
        """Whether the segment is old or large enough to become a part."""
        file = self._file
        return file is not None and (file.size > MAX_BYTES or time.monotonic() - file.opened > MAX_AGE_S)

    def rotate(self) -> None:
        """End the segment; the next row begins another. Errors: OSError, where it could not be put on the disk."""
        with self._lock:
            file, self._file = self._file, None
            self.waiting = 0
        if file is not None:
            try:
                file.sync()
            finally:
                file.close()


class _Segment:
    """One open file. `sound`: it ends with a whole row."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # It gets its name with the lock on it: nobody may find it without and take it for an abandoned one.
        beside = path.with_name(f".{path.name}{BESIDE}")
        self._number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        self.opened, self.size, self.sound = time.monotonic(), 0, True
        self._synced = 0
        try:
            fcntl.flock(self._number, fcntl.LOCK_EX)
            self.write(MAGIC, sync=False)
            beside.rename(path)
            flush(path.parent)
        except OSError:
            for left in (beside, path):
                with contextlib.suppress(OSError):
                    left.unlink()
            self.close()
            raise

    def write(self, content: bytes, *, sync: bool) -> None:
        try:
            left = memoryview(content)
            while len(left):
                left = left[os.write(self._number, left) :]
            if sync:
                os.fdatasync(self._number)
        except OSError:
            # What was not acknowledged is not kept: a caller will tell it again.
            self.sound = False
            with contextlib.suppress(OSError):
                os.ftruncate(self._number, self.size)
                self.sound = not sync
            raise
        self.size += len(content)
        if sync:
            self._synced = self.size

    def sync(self) -> None:
        size = self.size
        if size > self._synced:
            os.fdatasync(self._number)
            self._synced = size

    def close(self) -> None:
        os.close(self._number)


class Abandoned:
    """A segment that no process writes to any more, held by this one; a context manager.

    `rows` are its rows, and `torn` the bytes behind the last whole one. `held` is False where somebody else holds it,
    or has made a part of it meanwhile.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[bytes] = []
        self.torn = b""
        self.held = False
        self._number = -1

    def __enter__(self) -> Abandoned:
        try:
            self._number = os.open(self.path, os.O_RDONLY)
            fcntl.flock(self._number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.held = os.stat(self.path).st_ino == os.fstat(self._number).st_ino
        except (BlockingIOError, FileNotFoundError):
            return self
        if self.held:
            self.rows, self.torn = split(self.path.read_bytes())
        return self

    def __exit__(self, *error: object) -> None:
        if self._number >= 0:
            os.close(self._number)


def split(content: bytes) -> tuple[list[bytes], bytes]:
    """The whole rows at the beginning of a segment, and what is behind them."""
    if not content.startswith(MAGIC):
        return [], content
    rows, at = [], len(MAGIC)
    while at + _HEAD.size <= len(content):
        length, checksum = _HEAD.unpack_from(content, at)
        row = content[at + _HEAD.size : at + _HEAD.size + length]
        if length > LONGEST or len(row) < length or zlib.crc32(row) != checksum:
            break
        rows.append(row)
        at += _HEAD.size + length
    return rows, content[at:]
