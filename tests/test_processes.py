import os
import socket
import subprocess
import sys

import pytest

from serving.launch import PREFIX, end_orphans, own_folder
from twinspire import processes
from twinspire.errors import EnvironmentProblem

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def test_a_preferred_port_is_taken_only_where_it_is_free():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert processes.free_port(port) != port
        with pytest.raises(EnvironmentProblem, match=str(port)):
            processes.require_free("127.0.0.1", port)
    assert processes.free_port(port) == port
    processes.require_free("127.0.0.1", port)


def test_finds_and_ends_what_was_started():
    child = subprocess.Popen([*SLEEP, "a-mark-of-ours"])
    assert child.pid in processes.descendants(os.getpid())
    assert child.pid in processes.naming("a-mark-of-ours")
    processes.end([child.pid])
    assert child.pid not in processes.descendants(os.getpid())
    assert not processes.exists(child.pid)
    assert child.wait(5) != 0


def test_only_the_orphans_of_a_server_that_was_killed_are_ended(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ours, orphaned = own_folder(tmp_path), own_folder(tmp_path)
    (orphaned / "owner").write_text(str(gone.pid))
    stays, goes = (subprocess.Popen([*SLEEP, str(folder / "haproxy.cfg")]) for folder in (ours, orphaned))
    try:
        end_orphans(tmp_path)
        assert processes.exists(stays.pid)
        assert not processes.exists(goes.pid)
        assert [folder.name for folder in tmp_path.glob(f"{PREFIX}*")] == [ours.name]
    finally:
        for child in (stays, goes):
            child.kill()
            child.wait(5)
