"""A bundle on a device: on a CPU it runs what it would run on a GPU, and must answer as the usual one does."""

import gc
import threading
import weakref

import numpy as np
import pytest
import torch

from twinspire.bundle import Bundle, check_canaries
from twinspire.errors import EnvironmentProblem
from twinspire.features.query import Query, Shopper
from twinspire.index import gpu

TEXTS = ("red shoes", "blue lamp", "acme", "shoes", "", "nothing of this", "white tent cirrus")


@pytest.fixture(scope="module")
def pair(hybrid_bundle):
    usual = Bundle.load(hybrid_bundle)
    return usual, usual.on("cpu")


def queries(filters=None):
    shoppers = [None, Shopper("u1"), Shopper("u2")]
    return [Query(text, shoppers[place % 3], filters) for place, text in enumerate(TEXTS)]


def same(ours, usual, atol=1e-5):
    np.testing.assert_allclose(ours.scores, usual.scores, atol=atol)
    different = ours.items != usual.items  # those of equal scores may change places
    np.testing.assert_allclose(ours.scores[different], usual.scores[different], atol=atol)
    assert different.mean() < 0.02


@pytest.mark.parametrize(
    "filters", [None, {"brand": "acme"}, {"category": "shop > home"}, {"price": {"max": 40.0}}, {"brand": "none such"}]
)
@pytest.mark.parametrize("k", [1, 10, 200])
@pytest.mark.parametrize("few", [20_000, 0])  # allowed items are compared on the CPU, or searched for on the device
def test_hybrid_answers_are_the_same(pair, filters, k, few, monkeypatch):
    usual, there = pair
    monkeypatch.setattr("twinspire.index.hybrid.FEW", few)
    same(there.search(queries(filters), k), usual.search(queries(filters), k))


def test_plain_answers_are_the_same_and_the_vectors_do_not_leave_the_device(tiny_bundle, monkeypatch):
    usual = Bundle.load(tiny_bundle)
    there, wanted = usual.on("cpu"), usual.search(queries(), 10)
    left = []
    monkeypatch.setattr("twinspire.index.hybrid.on_host", lambda vectors: left.append(vectors))
    monkeypatch.setattr("twinspire.index.vectors.on_host", lambda vectors: left.append(vectors))
    asked = there.ask(queries())
    assert all(isinstance(one.vectors, torch.Tensor) for one in asked)
    same(there.nearest(asked, 10), wanted)
    assert not left


def test_several_heads_weighted_histories_and_all_columns(rich):
    there = rich.bundle.on("cpu")
    asked = [
        Query(text, Shopper(user)) for text in ("running shoes", "кружка", "かばん") for user in ("u1", "u3", None)
    ]
    vectors = there.embed(asked)
    assert isinstance(vectors, np.ndarray)
    np.testing.assert_allclose(vectors, rich.bundle.embed(asked), atol=1e-6)
    found = there.search(asked, 10)
    same(found, rich.bundle.search(asked, 10))
    assert found.heads.max() == 1
    wanted = rich.bundle.score(asked, found.items[:, 0].astype(np.int64))
    np.testing.assert_allclose(there.score(asked, found.items[:, 0].astype(np.int64)), wanted, atol=1e-5)


def test_its_canaries_are_answered(pair):
    assert check_canaries(pair[1]) > 0


def test_tables_are_shared_on_a_cpu(pair):
    usual, there = pair
    assert there._query_tower._rows.data_ptr() == usual._query_tower._rows.ctypes.data
    assert there._query_tower._rows.nbytes < usual._query_tower.nbytes


def test_embedded_in_one_thread_and_searched_in_another(pair):
    usual, there = pair
    answers = {}

    def ask(number):
        asked = there.ask(queries()[number : number + 2])
        thread = threading.Thread(target=lambda: answers.update({number: there.nearest(asked, 5)}))
        thread.start()
        thread.join()

    for number in range(len(TEXTS) - 1):
        ask(number)
        same(answers[number], usual.search(queries()[number : number + 2], 5))


def test_a_dropped_version_gives_its_memory_back(hybrid_bundle):
    """By counting references alone, as what a server has loaded is frozen."""
    there = Bundle.load(hybrid_bundle).on("cpu")
    there.search(queries(), 5)
    held = [weakref.ref(there._query_tower._rows), weakref.ref(there.index.vectors._whole_catalogue._vectors)]
    gc.collect()
    gc.disable()
    try:
        del there
        assert [one() for one in held] == [None, None]
    finally:
        gc.enable()


def test_what_does_not_fit_is_said_before_anything_is_moved(hybrid_bundle, monkeypatch):
    bundle = Bundle.load(hybrid_bundle)
    monkeypatch.setattr(gpu, "free_bytes", lambda device: 1 << 20)
    with pytest.raises(EnvironmentProblem, match=r"hybrid: .*GiB of GPU memory, 0\.0 GiB are free") as caught:
        bundle.on("cpu")
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    there = bundle.on("cpu")
    with pytest.raises(ValueError, match="already"):
        there.on("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said_before_the_bundle_is_read(tmp_path):
    with pytest.raises(EnvironmentProblem, match="device cuda: PyTorch"):
        Bundle.load(tmp_path / "none", device="cuda")
