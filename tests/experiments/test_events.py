"""What is acknowledged is in the table once, whatever is killed, torn or told twice."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import orjson
import polars as pl
import pytest
from full_disk import no_file_beyond
from hypothesis import given
from hypothesis import strategies as st
from writer import row

from twinspire.experiments import compact
from twinspire.experiments.compact import Compactor
from twinspire.experiments.journal import FOLDER, MAGIC, Journal, split
from twinspire.experiments.tables import EXPOSURES, INTERACTIONS

WRITER = Path(__file__).with_name("writer.py")


def table(folder):
    parts = sorted((folder / "interactions").glob("*.parquet"))
    return pl.concat([pl.read_parquet(part) for part in parts]) if parts else pl.DataFrame(schema=INTERACTIONS)


def ids(folder):
    return sorted(table(folder)["event_id"])


def segments(folder):
    return sorted((folder / FOLDER).glob("*.wal"))


def killed_writers(folder, kills, seed, longest=0.25):
    """Ids that writers acknowledged which ran side by side and were killed at random moments."""
    chance = random.Random(seed)
    acknowledged = set()
    for number in range(0, kills, 2):
        pair = [
            subprocess.Popen(
                [sys.executable, WRITER, folder, str(number + side), str(chance.random())[2:]],
                stdout=subprocess.PIPE,
                text=True,
            )
            for side in range(2)
        ]
        firsts = [process.stdout.readline() for process in pair]  # both are at work
        time.sleep(chance.uniform(0, longest))
        for process in pair:
            process.kill()
        for first, process in zip(firsts, pair, strict=True):
            rest = process.communicate()[0]
            whole = (first + rest).rpartition("\n")[0]
            acknowledged |= set(whole.split("\n"))
    return acknowledged


def check_kills(folder, kills, seed):
    acknowledged = killed_writers(folder, kills, seed)
    for nameless in (folder / FOLDER).glob(".*.new"):
        os.utime(nameless, (0, 0))  # a young one may be at its birth and is left alone
    Compactor(folder).run()
    there = ids(folder)
    assert len(there) == len(set(there)), "an event is there twice"
    assert acknowledged <= set(there), "an event that was acknowledged is lost"
    assert segments(folder) == []
    assert not list(folder.glob("*/.*.new"))
    return len(there)


def test_killed_writers_lose_nothing_and_count_nothing_twice(tmp_path):
    assert check_kills(tmp_path, 4, seed=1) > 100


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_killed_writers(tmp_path):
    assert check_kills(tmp_path, 60, seed=2) > 5_000


@pytest.mark.parametrize("at", ["_write", "rename", "unlink"])
def test_a_compaction_killed_anywhere_is_done_by_the_next(tmp_path, monkeypatch, at):
    journal = Journal(tmp_path, "interactions")
    journal.append([row("a"), row("b"), row("a")], sync=True)
    journal.rotate()

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(*{"_write": (compact, "_write"), "rename": (Path, "rename"), "unlink": (Path, "unlink")}[at], die)
        with pytest.raises(Killed):
            Compactor(tmp_path).run()
    assert len(segments(tmp_path)) == 1
    Compactor(tmp_path).run()
    Compactor(tmp_path).run()
    assert ids(tmp_path) == ["a", "b"]
    assert segments(tmp_path) == []


def test_a_retry_at_another_writer_is_not_counted_again(tmp_path):
    first, second = Journal(tmp_path, "interactions"), Journal(tmp_path, "interactions")
    compactor = Compactor(tmp_path)
    first.append([row("a")], sync=True)
    second.append([row("a"), row("b")], sync=True)
    assert compactor.run().parts == 0, "both still write"
    second.rotate()
    assert compactor.run().rows == 2
    first.rotate()
    assert (compactor.run().repeated, ids(tmp_path)) == (1, ["a", "b"])
    first.append([row("b"), row("c")], sync=True)
    first.rotate()
    assert Compactor(tmp_path).run().repeated == 1, "a compactor that has just started knows the parts too"
    assert ids(tmp_path) == ["a", "b", "c"]


def test_events_with_the_same_hash_are_not_taken_for_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(pl.Series, "hash", lambda self, *_: pl.Series([7] * len(self), dtype=pl.UInt64))
    journal, compactor = Journal(tmp_path, "interactions"), Compactor(tmp_path)
    for group in ("ab", "bc", "cd"):
        journal.append(map(row, group), sync=True)
        journal.rotate()
        compactor.run()
    assert ids(tmp_path) == list("abcd")


rows = st.lists(st.binary(max_size=40), max_size=6)


@given(rows=rows, cut=st.integers(0, 400), flip=st.none() | st.integers(0, 400))
def test_a_torn_or_damaged_end_is_cut_and_nothing_before_it(tmp_path_factory, rows, cut, flip):
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, "interactions")
    journal.append(rows, sync=True)
    content = bytearray(segments(folder)[0].read_bytes())
    journal.rotate()
    assert split(bytes(content)) == (rows, b"")
    ends = [len(MAGIC)]
    for one in rows:
        ends.append(ends[-1] + 8 + len(one))
    del content[cut:]
    if flip is not None and flip < len(content):
        content[flip] ^= 1
    damaged = min(cut, len(content), flip if flip is not None and flip < len(content) else len(content))
    whole = sum(end <= damaged for end in ends[1:])
    found, torn = split(bytes(content))
    assert found == (rows[:whole] if damaged >= len(MAGIC) else [])
    assert len(torn) == len(content) - (ends[whole] if damaged >= len(MAGIC) else 0)


def test_what_is_behind_the_last_whole_row_is_put_aside(tmp_path):
    journal = Journal(tmp_path, "interactions")
    journal.append([row("a"), row("b")], sync=True)
    journal.rotate()
    (segment,) = segments(tmp_path)
    segment.write_bytes(segment.read_bytes()[:-5])
    done = Compactor(tmp_path).run()
    assert (done.rows, ids(tmp_path)) == (1, ["a"])
    aside = tmp_path / FOLDER / "torn" / segment.name
    assert row("b")[:-5] in aside.read_bytes()
    assert done.torn == aside.stat().st_size


def test_a_full_disk_keeps_all_of_a_group_or_nothing(tmp_path):
    journal = Journal(tmp_path, "interactions")
    journal.append([row("a")], sync=True)
    with no_file_beyond(1000):
        with pytest.raises(OSError, match="File too large"):
            journal.append(map(row, "bcdefgh"), sync=True)
        with pytest.raises(OSError, match="File too large"):
            journal.append(map(row, "bcdefgh"), sync=True)
    with no_file_beyond(3), pytest.raises(OSError, match="File too large"):
        journal.append([row("x")], sync=True)
    journal.append(map(row, "bc"), sync=True)
    journal.rotate()
    with no_file_beyond(100), pytest.raises(OSError, match="File too large"):
        Compactor(tmp_path).run()
    assert not list(tmp_path.glob("*/.*.new"))
    Compactor(tmp_path).run()
    assert ids(tmp_path) == ["a", "b", "c"]


def test_exposures_keep_teams_where_there_are_any(tmp_path):
    journal = Journal(tmp_path, "exposures")
    plain = {
        "timestamp": 1,
        "request_id": "r",
        "experiment": "e",
        "arm": "a",
        "unit_id": "u",
        "results": 1,
        "status": 200,
    }
    journal.append([orjson.dumps(plain), orjson.dumps(plain | {"items": ["x"], "teams": [1]})], sync=False)
    journal.sync()
    journal.rotate()
    Compactor(tmp_path).run()
    (part,) = (tmp_path / "exposures").glob("*.parquet")
    found = pl.read_parquet(part)
    assert found.schema == EXPOSURES
    assert found["teams"].to_list() == [None, [1]]
