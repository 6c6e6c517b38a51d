"""A real PostgreSQL of this machine's packages, for tests: a cluster of its own, in a folder, on a free port."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from twinspire.processes import free_port

MISSING = "no PostgreSQL server here; on Debian: apt-get install postgresql"


@contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database, for SQLAlchemy; skips the test where there is no server or no driver."""
    pytest.importorskip("psycopg2", reason="no psycopg2; pip install 'twinspire[dev]'")
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    if not found[-1].is_file():
        pytest.skip(MISSING)
    programs = found[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path is at most 107 characters
    owner = _owner()
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    port = free_port()

    def run(program: str, *arguments: str) -> None:
        command = [str(programs / program), *arguments]
        as_owner = {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"LC_ALL": "C"}, **as_owner)
        assert done.returncode == 0, f"{program}: {done.stderr}"

    data, log = str(folder / "data"), str(folder / "log")
    try:
        run("initdb", "-D", data, "-U", "twinspire", "-A", "trust", "-N", "-E", "UTF8")
        settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c shared_buffers=16MB"
        run("pg_ctl", "-D", data, "-l", log, "-w", "-o", settings, "start")
        try:
            yield f"postgresql+psycopg2://twinspire@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _owner() -> "pwd.struct_passwd | None":
    """Who runs the server where we are root, which it refuses to be run by."""
    if os.getuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("PostgreSQL runs as no root, and there is no other user")
