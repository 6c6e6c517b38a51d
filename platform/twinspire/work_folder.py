"""The work folder of a job that writes a bundle: what a killed job leaves and the next of the same kind goes on from.

It lies beside the target as `.NAME.work`. Whoever works in it holds a lock that the system takes back when the process
ends, however it ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import twinspire
from twinspire.errors import EnvironmentProblem
from twinspire.files import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOCK, STATE = "lock", "fit.json"
ROOMS = ("dataset", "features", "index", "model", "teacher", "text", "training")  # whose code a checkpoint depends on


class WorkFolder:
    """A claimed work folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fit_id = ""

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return any(self.path.glob("train/checkpoints/[0-9]*"))

    def begin(self, identity: Mapping[str, Any]) -> tuple[bool, str | None]:
        """Go on with what was begun for the same `identity`, or begin anew.

        Gives whether it goes on, and the id of another fit whose unfinished work was thrown away for it, if there
        was one.
        """
        text = json.dumps({**identity, "code": code_version()}, sort_keys=True)
        state = self._state()
        if state and state["identity"] == text:
            self.fit_id = state["fit_id"]
            return True, None
        for path in self.path.iterdir():
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.fit_id = uuid.uuid4().hex
        beside = self.path / f"{STATE}.new"
        beside.write_text(json.dumps({"identity": text, "fit_id": self.fit_id}))
        beside.replace(self.path / STATE)
        return False, state["fit_id"] if state else None

    def _state(self) -> dict[str, str] | None:
        try:
            state: dict[str, str] = json.loads((self.path / STATE).read_text())
        except (OSError, ValueError):
            return None
        return state


@contextmanager
def claim(target: Path) -> Iterator[WorkFolder]:
    """The work folder of `target` for the length of a block. It goes when the block ends well, and when it fails with
    nothing to go on from.

    Errors: EnvironmentProblem where another process works in it, or it cannot be made.
    """
    make_folder(target.parent)
    path = target.with_name(f".{target.name}.work")
    lock = _lock(path, target)
    work = WorkFolder(path)
    done = False
    try:
        yield work
        done = True
    finally:
        if done or not work.resumable:
            shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def code_version() -> str:
    """The package's version and a digest of the code that a checkpoint depends on."""
    root, digest = Path(twinspire.__file__).parent, hashlib.sha256()
    for room in ROOMS:
        for path in sorted((root / room).glob("*.py")):
            digest.update(path.read_bytes())
    return f"{twinspire.__version__}+{digest.hexdigest()[:16]}"


def _lock(path: Path, target: Path) -> int:
    """A descriptor that holds the folder's lock until it is closed."""
    while True:
        path.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # whoever was in it has just removed it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise EnvironmentProblem(
                f"{target}: another fit{f' ({holder})' if holder else ''} is writing it; wait until it ends or give "
                "--out another name"
            ) from None
        if _is_there(descriptor, path / LOCK):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            return descriptor
        os.close(descriptor)


def _is_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
