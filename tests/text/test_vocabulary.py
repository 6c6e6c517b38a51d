from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinspire.ragged import Ragged
from twinspire.text import Vocabulary, count

bags = st.lists(st.lists(st.integers(0, 255), max_size=8), max_size=8).map(Ragged.from_rows)


def test_rows_are_ordered_by_count_and_rare_ones_are_dropped() -> None:
    bag = Ragged.from_rows([[7, 7, 7, 3], [9, 3], [9, 200]])
    vocabulary = Vocabulary.fit([bag], hash_bits=8, min_count=2)
    assert vocabulary.hashes.tolist() == [-1, 7, 3, 9]
    assert vocabulary.counts.tolist() == [0, 3, 2, 2]
    assert vocabulary.size == 4
    applied = vocabulary.apply(bag)
    assert applied.values.tolist() == [1, 1, 1, 2, 3, 2, 3]
    assert applied.values.dtype == np.int32
    assert applied.offsets.tolist() == [0, 4, 6, 7]


def test_the_size_can_be_capped() -> None:
    counts = count(Ragged.from_rows([[1, 1, 2, 2, 2, 3]]), hash_bits=8)
    assert Vocabulary.from_counts(counts, max_size=3).hashes.tolist() == [-1, 2, 1]


def test_weights_count_a_row_more_than_once() -> None:
    counts = count(Ragged.from_rows([[1, 2], [2]]), hash_bits=8, weights=np.array([10, 1]))
    assert counts[[1, 2]].tolist() == [10, 11]


@given(bags, bags, st.integers(1, 3))
def test_apply_keeps_what_was_seen_often_enough_and_nothing_else(seen: Ragged, new: Ragged, least: int) -> None:
    vocabulary = Vocabulary.fit([seen], hash_bits=8, min_count=least)
    frequency = np.bincount(seen.values, minlength=256)
    applied = vocabulary.apply(new)
    assert len(applied) == len(new)
    for i in range(len(new)):
        kept = [value for value in new.row(i).tolist() if frequency[value] >= least]
        assert vocabulary.hashes[applied.row(i)].tolist() == kept
    assert (vocabulary.counts[1:] == frequency[vocabulary.hashes[1:]]).all()


def test_an_empty_vocabulary_drops_everything() -> None:
    vocabulary = Vocabulary.fit([], hash_bits=8)
    assert vocabulary.size == 1
    assert vocabulary.apply(Ragged.from_rows([[0, 1], []])).offsets.tolist() == [0, 0, 0]


def test_it_comes_back_from_disk(tmp_path: Path) -> None:
    vocabulary = Vocabulary.fit([Ragged.from_rows([[5, 5, 9]])], hash_bits=8)
    vocabulary.save(tmp_path / "words")
    loaded = Vocabulary.load(tmp_path / "words")
    assert loaded.hashes.tolist() == [-1, 5, 9]
    assert loaded.counts.tolist() == [0, 2, 1]
    assert loaded.apply(Ragged.from_rows([[9, 200]])).values.tolist() == [2]


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="row 0"):
        Vocabulary(np.array([3], np.int32), np.array([0]))
