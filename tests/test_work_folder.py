"""The work folder: one process in it, found again for the same work only."""

import subprocess
import sys

import pytest

from twinspire.errors import EnvironmentProblem
from twinspire.work_folder import claim

HOLD = """
import sys, time
from pathlib import Path
from twinspire.work_folder import claim
with claim(Path(sys.argv[1])) as work:
    work.begin({"data": 1})
    (work.path / "train/checkpoints/00000001").mkdir(parents=True)
    print("in", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def target(tmp_path):
    return tmp_path / "shop"


def begin(target, identity, *, checkpoint=False, fail=False):
    """One job; gives what `begin` said and its id."""
    with claim(target) as work:
        said = work.begin(identity)
        if checkpoint:
            (work.path / "train" / "checkpoints" / "00000001").mkdir(parents=True)
        if fail:
            raise KeyboardInterrupt
        return said, work.fit_id
    return None


def test_it_goes_when_the_work_is_done(target):
    assert begin(target, {"data": 1}, checkpoint=True)[0] == (False, None)
    assert list(target.parent.iterdir()) == []


def test_it_goes_when_there_is_nothing_to_go_on_from(target):
    with pytest.raises(KeyboardInterrupt):
        begin(target, {"data": 1}, fail=True)
    assert list(target.parent.iterdir()) == []


def test_the_same_work_goes_on_and_other_work_begins_anew(target):
    with pytest.raises(KeyboardInterrupt):
        begin(target, {"data": 1}, checkpoint=True, fail=True)
    with claim(target) as work:
        assert work.resumable
        assert work.begin({"data": 1}) == (True, None)
        first = work.fit_id
    with pytest.raises(KeyboardInterrupt):
        begin(target, {"data": 1}, checkpoint=True, fail=True)
    with claim(target) as work:
        goes_on, given_up = work.begin({"data": 2})
        assert not goes_on
        assert given_up not in (None, first, work.fit_id)
        assert not work.resumable


def test_two_at_once_refuse_until_the_first_is_killed(target):
    with subprocess.Popen([sys.executable, "-c", HOLD, str(target)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"in\n"
        with pytest.raises(EnvironmentProblem, match=rf"shop: another fit \(process {holder.pid} on "), claim(target):
            pass
        holder.kill()
        holder.wait()
    with claim(target) as work:
        assert work.begin({"data": 1}) == (True, None)
