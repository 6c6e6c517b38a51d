import json
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from serving.encode import ItemEncoder
from twinspire.features.ids import ItemIds

ids = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=6, unique=True)


@settings(deadline=None)
@given(ids=ids, data=st.data())
def test_reads_back_as_the_same_items(ids, data):
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 5)))
    rows = data.draw(arrays.arrays(np.int32, shape, elements=st.integers(-1, len(ids) - 1)))
    scores = data.draw(arrays.arrays(np.float32, shape, elements=st.floats(-1e6, 1e6, width=32)))
    for text, row, score in zip(ItemEncoder(ItemIds.of(ids)).encode(rows, scores), rows, scores, strict=True):
        items = json.loads(b"[" + text + b"]")
        kept = row >= 0
        assert [item["item_id"] for item in items] == [ids[r] for r in row[kept]]
        for item, expected in zip(items, score[kept].tolist(), strict=True):
            assert math.isclose(item["score"], expected, rel_tol=1e-9, abs_tol=1e-7)


def test_a_score_that_is_no_number_is_null():
    rows = np.zeros((1, 3), np.int32)
    scores = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    (text,) = ItemEncoder(ItemIds.of(["a"])).encode(rows, scores)
    assert [item["score"] for item in json.loads(b"[" + text + b"]")] == [None] * 3


def test_no_items_at_all():
    assert ItemEncoder(ItemIds.of(["a"])).encode(np.full((2, 3), -1, np.int32), np.zeros((2, 3), np.float32)) == [
        b"",
        b"",
    ]


def test_ids_of_any_length_stand_whole_beside_each_other():
    ids = ["é" * (n % 3) + "x" * n for n in range(1, 70)]
    rows = np.arange(len(ids), dtype=np.int32)[None].repeat(2, 0)
    for text in ItemEncoder(ItemIds.of(ids)).encode(rows, np.ones(rows.shape, np.float32)):
        assert [item["item_id"] for item in json.loads(b"[" + text + b"]")] == ids
