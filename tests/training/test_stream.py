"""The stream's plan: shares of the log, and where a stream goes on after rows that were learned from before."""

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from twinspire.training.config import NegativeConfig
from twinspire.training.feed import ROWS, ReadPart, Share, tasks

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=4)


def rows_of(folder, lengths, share, rounds=2, learned=0):
    """Columns of a share's stream, read without Ray."""
    read = ReadPart(NegativeConfig(count=4), batch_size=4, items=50, seed=7, share=share)
    parts = []
    for task in tasks(lengths, 7, rounds, share, learned):
        given_ = {name: np.array([value]) for name, value in task.items()}
        parts.append(read(given_ | {"path": np.array([str(folder / f"{task['part']}.parquet")])}))
    return {name: np.concatenate([part[name] for part in parts]) for name in (*ROWS, "random")} if parts else {}


def write(folder, lengths):
    first = 0
    for part, length in enumerate(lengths):
        number = np.arange(first, first + length)
        frame = dict.fromkeys(ROWS, number) | {"item": (number % 50).astype(np.int32)}
        pl.DataFrame(frame).write_parquet(folder / f"{part}.parquet")
        first += length
    return first


@given(LENGTHS, st.integers(1, 3))
def test_each_round_the_workers_share_the_log_evenly_and_no_row_falls_to_two(tmp_path_factory, lengths, world):
    folder = tmp_path_factory.mktemp("parts")
    total = write(folder, lengths)
    for rounds in (1, 2):
        found = [rows_of(folder, lengths, Share(rank, world), rounds).get("query", []) for rank in range(world)]
        assert sorted(np.concatenate(found)) == sorted(list(range(total)) * rounds)
        assert min(len(rows) for rows in found) >= total // world * rounds


@given(LENGTHS, st.integers(1, 3), st.data())
def test_a_stream_goes_on_where_it_was(tmp_path_factory, lengths, world, data):
    folder = tmp_path_factory.mktemp("parts")
    write(folder, lengths)
    share = Share(data.draw(st.integers(0, world - 1)), world)
    whole = rows_of(folder, lengths, share)
    size = len(whole.get("query", []))
    learned = data.draw(st.integers(0, size))
    rest = rows_of(folder, lengths, share, learned=learned)
    for name, values in rest.items():
        np.testing.assert_array_equal(values, whole[name][learned:])
    assert len(rest.get("query", [])) == size - learned
