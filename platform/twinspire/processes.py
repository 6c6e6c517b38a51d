"""Which processes did we start, and are they gone? Ports likewise. Reads /proc, or asks `ps` where there is none."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from twinspire.errors import EnvironmentProblem

if TYPE_CHECKING:
    from collections.abc import Iterable


def require_free(host: str, port: int) -> None:
    """Raise EnvironmentProblem, saying what to do, where `port` cannot be listened on."""
    try:
        _listen(host, port)
    except OSError as error:
        raise EnvironmentProblem(
            f"port {port} on {host} cannot be used ({error.strerror}); end what listens there or choose another --port"
        ) from None


def free_port(preferred: int = 0) -> int:
    """`preferred` where nothing listens on it, on any interface, else a port the system chooses."""
    try:
        return _listen("", preferred)
    except OSError:
        return _listen("", 0)


def _listen(host: str, port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that only lingers is free
        probe.bind((host, port))
        probe.listen()
        return int(probe.getsockname()[1])


def descendants(pid: int) -> set[int]:
    """Children, their children and so on, of `pid`."""
    children: dict[int, list[int]] = {}
    for child, parent, _ in _table():
        children.setdefault(parent, []).append(child)
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def naming(text: str) -> set[int]:
    """Processes other than this one with `text` in their command line."""
    return {pid for pid, _, arguments in _table() if text in arguments and pid != os.getpid()}


def exists(pid: int) -> bool:
    """Whether a process of that number runs."""
    return any(pid == other for other, _, _ in _table())


def end(pids: Iterable[int], *, patience_s: float = 3.0) -> None:
    """Ask the processes to end, wait, and kill the ones that have not."""
    left = set(pids)
    for ask in (signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, ask)
        deadline = time.monotonic() + patience_s
        while left and time.monotonic() < deadline:
            left &= {pid for pid, _, _ in _table()}
            time.sleep(0.05)


def _table() -> list[tuple[int, int, str]]:
    """(pid, parent, command line) of every process that is not a zombie."""
    if not Path("/proc/self/stat").exists():
        listing = subprocess.run(["ps", "-axo", "pid=,ppid=,args="], capture_output=True, text=True, check=True)
        rows = (line.split(None, 2) for line in listing.stdout.splitlines())
        return [(int(row[0]), int(row[1]), row[2] if len(row) > 2 else "") for row in rows]
    table = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                arguments = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                table.append((int(folder.name), int(parent), arguments))
    return table
