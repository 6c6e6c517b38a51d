from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.ragged import Ragged

ROWS = st.lists(st.lists(st.integers(-5, 2**31 - 1), max_size=6), min_size=1, max_size=8)


def as_lists(ragged: Ragged) -> list[list[int]]:
    return [ragged.row(i).tolist() for i in range(len(ragged))]


@given(ROWS)
def test_rows_come_back_as_they_went_in(rows: list[list[int]]) -> None:
    ragged = Ragged.from_rows(rows)
    assert as_lists(ragged) == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert ragged.offsets[0] == 0
    assert ragged.offsets[-1] == len(ragged.values)
    again = Ragged.from_lengths(ragged.values, ragged.lengths)
    assert as_lists(again) == rows


@given(ROWS, st.data())
def test_gather_is_list_indexing(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=12))
    gathered = Ragged.from_rows(rows).gather(np.array(chosen, np.int32))
    assert as_lists(gathered) == [rows[i] for i in chosen]


@given(st.lists(st.integers(0, 99), max_size=20), st.data())
def test_slices_are_list_slices(values: list[int], data: st.DataObject) -> None:
    bounds = st.tuples(st.integers(0, len(values)), st.integers(0, len(values))).map(sorted)
    chosen = data.draw(st.lists(bounds, max_size=10))
    starts, stops = (np.array([pair[side] for pair in chosen], np.int64) for side in (0, 1))
    ragged = Ragged(np.array(values, np.int32), np.zeros(1, np.int64))
    assert as_lists(ragged.slices(starts, stops)) == [values[start:stop] for start, stop in chosen]


@pytest.mark.parametrize("mmap", [True, False])
def test_saved_rows_are_loaded(tmp_path: Path, mmap: bool) -> None:
    ragged = Ragged.from_rows([[1, 2], [], [3]])
    ragged.save(tmp_path / "bag")
    loaded = Ragged.load(tmp_path / "bag", mmap=mmap)
    assert as_lists(loaded) == [[1, 2], [], [3]]
    assert loaded.values.dtype == np.int32
    assert as_lists(loaded.gather(np.array([2, 0]))) == [[3], [1, 2]]


def test_no_rows_and_no_values() -> None:
    empty = Ragged.from_rows([])
    assert len(empty) == 0
    assert len(empty.gather(np.zeros(0, np.int64))) == 0
    assert as_lists(Ragged.from_rows([[], []]).gather(np.array([1, 1, 0]))) == [[], [], []]
