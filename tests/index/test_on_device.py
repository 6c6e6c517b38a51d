"""Searching on a device, with torch's and FAISS's forms for CPUs: what differs on a GPU is where the memory is."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from twinspire.errors import ConfigError, EnvironmentProblem
from twinspire.index import gpu, on_device
from twinspire.index.build import check_factory
from twinspire.index.config import IndexConfig
from twinspire.index.families import CAGRA, families
from twinspire.index.gpu import Placement, choose, code_bytes, compressed_bytes, placements, suits_faiss
from twinspire.index.on_device import DeviceIndex, put_on
from twinspire.index.parameters import Settings
from twinspire.index.tensors import search
from twinspire.index.tune import one_thread, recall_at
from twinspire.index.vectors import VectorIndex
from twinspire.index.whole import WholeCatalogue, block_rows

CPU = torch.device("cpu")
COUNT, DIM, K = 3000, 16, 50
PARAMETERS = {"IVF16,SQ8": "nprobe=4,refine=2", "IVF16,PQ8np": "nprobe=4,refine=3", "IVF16,Flat": "nprobe=4,refine=0"}
MIB = 1 << 20


def unit(seed: int, *shape: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return unit(0, COUNT, DIM)


@pytest.fixture(scope="module")
def made(vectors):
    """A `VectorIndex` by factory string."""
    kept: dict[str, VectorIndex] = {}

    def make(factory: str) -> VectorIndex:
        if factory not in kept:
            index = faiss.index_factory(DIM, factory, faiss.METRIC_INNER_PRODUCT)
            with one_thread():
                index.train(vectors)
                index.add(vectors)
            kept[factory] = VectorIndex(index, PARAMETERS.get(factory, ""), vectors)
        return kept[factory]

    return make


def bitmap(allowed: np.ndarray) -> np.ndarray:
    return np.packbits(allowed, bitorder="little")


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("factory", PARAMETERS)
def test_what_faiss_holds_there_finds_the_same_bit_for_bit(made, factory, heads):
    host = made(factory)
    there = put_on(host, CPU, filtered=False)
    queries = unit(1, 9, heads, DIM)
    for ours, usual in zip(there.search(torch.from_numpy(queries), K), host.search(queries, K), strict=True):
        np.testing.assert_array_equal(ours, usual)
    np.testing.assert_array_equal(there.candidates(torch.from_numpy(queries), K), host.candidates(queries, K))
    assert (there.size, there.parameters) == (host.size, host.parameters)


@pytest.mark.parametrize("heads", [1, 3])
def test_a_flat_index_is_compared_exactly(made, heads):
    host = made("Flat")
    queries = unit(1, 9, heads, DIM)
    scores, rows, best = put_on(host, CPU, filtered=True).search(torch.from_numpy(queries), K)
    wanted = host.search(queries, K)
    np.testing.assert_allclose(scores, wanted[0], atol=1e-6)
    np.testing.assert_array_equal(rows, wanted[1])
    np.testing.assert_array_equal(best, wanted[2])
    assert (rows.dtype, best.dtype) == (np.int64, np.int8)


@pytest.mark.parametrize("factory", ["IVF16,PQ8x4fsr", "HNSW8"])
def test_what_has_no_form_there_is_compared_in_half_precision_and_again_in_full(made, vectors, factory):
    queries = unit(1, 40, 2, DIM)
    scores, rows, _ = put_on(made(factory), CPU, filtered=True).search(torch.from_numpy(queries), K)
    wanted = made("Flat").search(queries, K)
    assert recall_at(rows, wanted[1]) >= 0.999
    np.testing.assert_allclose(scores, (queries[:, :, None] * vectors[rows][:, None]).sum(-1).max(1), atol=1e-6)


@pytest.mark.parametrize("factory", ["Flat", "IVF16,PQ8x4fsr", "IVF16,SQ8"])
@pytest.mark.parametrize("share", [0.5, 0.01, 0.0])
def test_filters_are_answered_exactly_there(made, vectors, factory, share):
    allowed = np.random.default_rng(2).random(COUNT) < share
    queries = unit(3, 5, 2, DIM)
    there = put_on(made(factory), CPU, filtered=True)
    scores, rows, _ = there.search(torch.from_numpy(queries), K, within=bitmap(allowed))
    exact = np.where(allowed, (queries @ vectors.T).max(1), -np.inf)
    kept = min(K, int(allowed.sum()))
    np.testing.assert_allclose(scores[:, :kept], -np.sort(-exact, axis=1)[:, :kept], atol=1e-5)
    assert allowed[rows[:, :kept]].all()
    assert (rows[:, kept:] == -1).all()
    assert np.isneginf(scores[:, kept:]).all()


@given(st.data())
def test_blocks_do_not_show(data):
    """Any number of rows a block, more results than a block or than there are, ties, filters: as sorting has it."""
    count, k = data.draw(st.integers(1, 3000)), data.draw(st.integers(1, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    vectors = rng.integers(-2, 3, (count, 2)).astype(np.float32)  # many ties, no rounding
    queries = rng.integers(-2, 3, (3, 2)).astype(np.float32)
    allowed = rng.random(count) < data.draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    whole = WholeCatalogue(vectors, CPU, torch.float16, temporary=1)
    scores, rows = (one.numpy() for one in whole.search(torch.from_numpy(queries), k, bitmap(allowed)))
    exact = queries @ vectors.T
    kept = min(k, int(allowed.sum()))
    wanted = -np.sort(-np.where(allowed, exact, -np.inf), axis=1)[:, :kept]
    np.testing.assert_array_equal(scores[:, :kept], wanted)
    np.testing.assert_array_equal(np.take_along_axis(exact, rows[:, :kept], 1), wanted)
    assert allowed[rows[:, :kept]].all()
    assert all(len(set(row)) == kept for row in rows[:, :kept].tolist())
    assert (rows[:, kept:] == -1).all()
    assert np.isneginf(scores[:, kept:]).all()


def test_tensors_go_in_and_out_without_a_copy(made, vectors):
    """What FAISS is given are the addresses of the tensors themselves."""
    queries, index = torch.from_numpy(unit(1, 4, DIM)), made("IVF16,SQ8").index
    given = []

    class Listening:
        d = DIM

        def search_c(self, n, x, k, scores, rows, parameters):
            given.extend(int(pointer) for pointer in (x, scores, rows))
            index.search_c(n, x, k, scores, rows, parameters)

    scores, rows = search(Listening(), queries, 5)
    assert given == [queries.data_ptr(), scores.data_ptr(), rows.data_ptr()]
    np.testing.assert_array_equal(rows.numpy(), index.search(queries.numpy(), 5)[1])
    with pytest.raises(ValueError, match=r"torch\.float64 on cpu"):
        search(index, queries.double(), 5)
    with pytest.raises(ValueError, match="does not go into"):
        search(index, queries[:, ::2], 5)


@pytest.mark.parametrize("factory", ["IVF16,SQ8", "IVF16,PQ8x4fsr"])
def test_one_thread_at_a_time_and_every_answer_right(made, factory, monkeypatch):
    """Sixteen threads; a search that another one enters is counted."""
    host, inside, met = made(factory), threading.Semaphore(1), []
    there = put_on(host, CPU, filtered=True)

    def guarded(real):
        def call(*given, **named):
            met.append(not inside.acquire(blocking=False))
            try:
                return real(*given, **named)
            finally:
                inside.release()

        return call

    monkeypatch.setattr(on_device, "search", guarded(on_device.search))
    monkeypatch.setattr(WholeCatalogue, "search", guarded(WholeCatalogue.search))
    queries = unit(4, 16, 8, 1, DIM)
    within = bitmap(np.arange(COUNT) % 2 == 0)

    def ask(number: int) -> list:
        given = torch.from_numpy(queries[number % 16])
        return [there.search(given, 10, within=within if number % 3 == 0 else None)[1] for _ in range(5)]

    alone = [ask(number) for number in range(48)]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(ask, range(48)))
    np.testing.assert_array_equal(together, alone)
    assert len(met) == 2 * 48 * 5
    assert not any(met)


def test_the_memory_is_given_back_with_the_index(made):
    """By counting references alone: a server freezes what it has loaded, so that no collection finds it again."""
    there = put_on(made("IVF16,PQ8x4fsr"), CPU, filtered=True)
    held = weakref.ref(there._whole_catalogue._vectors)
    there.search(torch.from_numpy(unit(1, 2, 1, DIM)), 5)
    gc.disable()
    try:
        del there
        assert held() is None
    finally:
        gc.enable()


def flat(count: int, dim: int = 64) -> faiss.IndexFlatIP:
    """As large as it says, and empty."""
    index = faiss.IndexFlatIP(dim)
    index.ntotal = count
    return index


def lists(factory: str, count: int, dim: int = 64) -> faiss.IndexIVF:
    index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    index.ntotal = count
    return index


def test_memory_by_hand():
    """15 million items of 64 dimensions."""
    count, temporary = 15_000_000, 256 * MIB
    assert placements(flat(count), filtered=True, faiss_there=True, temporary=temporary) == [
        Placement(False, torch.float32, 3_840_000_000 + temporary),
        Placement(False, torch.float16, 1_920_000_000 + temporary),
    ]
    # A code of 32 bytes and an id of 8 each; 16,384 centres of 256 bytes, and 512 for what lists are rounded up to.
    held = 15_000_000 * 40 + 16_384 * (256 + 512)
    fine = lists("IVF16384,PQ32", count)
    assert compressed_bytes(fine) == held == 612_582_912
    assert placements(fine, filtered=True, faiss_there=True, temporary=temporary) == [
        Placement(True, torch.float16, held + 1_920_000_000 + 2 * temporary),
        Placement(True, None, held + temporary),
    ]
    assert placements(fine, filtered=False, faiss_there=True, temporary=temporary) == [
        Placement(True, None, held + temporary)
    ]
    half = [Placement(False, torch.float16, 1_920_000_000 + temporary)]
    assert placements(fine, filtered=True, faiss_there=False, temporary=temporary) == half
    assert placements(lists("IVF16384,PQ32x4fsr", count), filtered=True, faiss_there=True, temporary=temporary) == half
    graph = faiss.IndexHNSWCagra(64, 32)
    graph.ntotal = count
    assert compressed_bytes(graph) == 15_000_000 * (256 + 4 * 64)


def test_what_fits_is_chosen_and_what_does_not_is_said():
    fine = lists("IVF16384,PQ32", 15_000_000)
    options = placements(fine, filtered=True, faiss_there=True, temporary=256 * MIB)
    both, alone = options
    tower = 100 * MIB
    assert choose(fine, options, both.nbytes + tower, tower) is both
    assert choose(fine, options, both.nbytes + tower - 1, tower) is alone
    with pytest.raises(EnvironmentProblem, match=r"needs about 0\.9 GiB of GPU memory, 0\.5 GiB are free; drop an arm"):
        choose(fine, options, 512 * MIB, tower)
    coarse = lists("IVF16384,PQ32x4fsr", 15_000_000)
    options = placements(coarse, filtered=True, faiss_there=True, temporary=256 * MIB)
    with pytest.raises(EnvironmentProblem) as caught:
        choose(coarse, options, 1024 * MIB, tower)
    assert str(caught.value) == (
        "the index (IndexIVFPQFastScan) has no form for GPUs, and comparing all vectors in half precision needs about "
        "2.1 GiB of GPU memory, 1.0 GiB are free; fit with --set index.device=cuda (an index of about 0.6 GiB), take a "
        "larger GPU, or serve it on cpu"
    )


def test_a_block_is_as_large_as_its_memory():
    assert block_rows(64, 256 * MIB) == 262_144
    assert block_rows(1, 256 * MIB) == 16_777_216
    assert block_rows(100_000, 256 * MIB) == 1024
    assert block_rows(0, 256 * MIB) % 8 == 0


def test_the_bound_on_temporary_memory_is_one_variable(monkeypatch):
    monkeypatch.delenv(gpu.TEMPORARY, raising=False)
    assert gpu.temporary_bytes() == 256 * MIB
    monkeypatch.setenv(gpu.TEMPORARY, "512")
    assert gpu.temporary_bytes() == 512 * MIB
    for wrong in ("0", "15", "2000", "1.5", "lots", "-64"):
        monkeypatch.setenv(gpu.TEMPORARY, wrong)
        with pytest.raises(ConfigError, match=f"{gpu.TEMPORARY}={wrong}: a whole number"):
            gpu.temporary_bytes()


@pytest.mark.parametrize(
    ("factory", "suits"),
    [
        ("IVF16,Flat", True), ("IVF16,SQ8", True), ("IVF16,SQfp16", True), ("IVF16,PQ8", True),
        ("IVF16,PQ8x4fsr", False), ("IVF16,PQ8x4", False), ("IVF16,SQ4", False), ("IVF16_HNSW32,SQ8", False),
        ("HNSW16", False), ("SQ8", False), ("PQ8", False), ("OPQ8,IVF16,PQ8", False),
    ],
)  # fmt: skip
def test_what_faiss_can_hold_on_a_gpu(factory, suits):
    assert suits_faiss(faiss.index_factory(DIM, factory, faiss.METRIC_INNER_PRODUCT)) is suits


@given(st.integers(1, 4096))
def test_codes_are_of_a_length_that_a_gpu_takes(dim):
    size = code_bytes(dim)
    assert dim % size == 0
    assert size in gpu.CODE_BYTES
    assert not any(other > size and dim % other == 0 and 2 * other <= dim for other in gpu.CODE_BYTES)


def test_candidates_for_a_gpu():
    assert (code_bytes(64), code_bytes(256), code_bytes(128), code_bytes(7)) == (32, 64, 64, 1)
    assert families(256, 10**6, "cuda") == ["IVF{lists},PQ64"]  # CAGRA only where FAISS has it


def gpu_class(name: str, **fields: object) -> type:
    return type(name, (), fields)


@pytest.fixture
def gpu_faiss(monkeypatch):
    """The names that FAISS has in its build for GPUs, as 1.15.1 spells them, without what is behind them."""
    for name in ("GpuIndexIVF", "GpuIndexCagra", "GpuIndex"):
        monkeypatch.setattr(faiss, name, gpu_class(name, nlist=4096, nprobe=1), raising=False)

    class Cagra:
        def __init__(self, itopk_size):
            self.itopk_size = itopk_size

    monkeypatch.setattr(faiss, "SearchParametersCagra", Cagra, raising=False)
    return faiss


def test_parameters_of_indexes_on_a_gpu(gpu_faiss):
    """Within what its kernels take, and no filter, which they would ignore without a word."""
    ivf, graph = gpu_faiss.GpuIndexIVF(), gpu_faiss.GpuIndexCagra()
    settings = Settings.read("nprobe=16,refine=3", ivf)
    assert settings.for_search(ivf, 1.0, None, 100).nprobe == 16
    assert settings.for_search(ivf, 1e9, None, 100).nprobe == 2048
    for index in (ivf, graph):
        with pytest.raises(NotImplementedError):
            settings.for_search(index, 1.0, np.zeros(1, np.uint8), 100)
    settings = Settings.read("itopk_size=128,refine=1", graph)
    assert [settings.for_search(graph, effort, None, 100).itopk_size for effort in (1, 4, 1e9)] == [128, 512, 2048]
    assert settings.for_search(graph, 1.0, None, 1000).itopk_size == 1000  # never fewer than are asked for
    assert Settings.read("", graph).for_search(graph, 1.0, None, 10).itopk_size == 64
    assert families(64, 10**6, "cuda") == ["IVF{lists},PQ32", CAGRA]


def test_every_index_has_resources_of_its_own_with_bounded_memory(monkeypatch):
    """What FAISS for GPUs is called with; the names are those of 1.15.1."""
    told = []

    class Resources:
        def __getattr__(self, name):
            return lambda *given: told.append((self, name, given))

    def copied(resources, device, index, options):
        told.append((resources, "copied to", (device, options.useFloat16)))
        return index

    monkeypatch.setattr(gpu, "require_faiss", lambda: None)
    monkeypatch.setattr(faiss, "StandardGpuResources", Resources, raising=False)
    monkeypatch.setattr(faiss, "GpuClonerOptions", gpu_class("GpuClonerOptions"), raising=False)
    monkeypatch.setattr(faiss, "index_cpu_to_gpu", copied, raising=False)
    monkeypatch.setenv(gpu.TEMPORARY, "64")
    for factory, half in (("IVF16,PQ32", False), ("IVF16,PQ64", True)):
        gpu.to_gpu(lists(factory, 0, 128), torch.device("cuda"))
        own = told[0][0]
        assert told == [
            (own, "setPinnedMemory", (0,)),
            (own, "setTempMemory", (64 * MIB,)),
            (own, "setDefaultNullStreamAllDevices", ()),
            (own, "copied to", (0, half)),
        ]
        told.clear()

    def full(*given):
        raise RuntimeError("Error in allocMemory: StandardGpuResources: alloc fail type IVFLists (cudaMalloc error)")

    monkeypatch.setattr(faiss, "index_cpu_to_gpu", full)
    with pytest.raises(EnvironmentProblem, match="no memory left for the index") as caught:
        gpu.to_gpu(lists("IVF16,PQ32", 0), torch.device("cuda"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("factory", "dim"), [("IVF64,PQ32x4fsr,RFlat", 64), ("HNSW32", 64), ("IVF64,PQ128", 256)])
def test_a_factory_string_without_a_form_for_gpus_is_refused_before_training(monkeypatch, factory, dim):
    monkeypatch.setattr(gpu, "require_faiss", lambda: None)
    with pytest.raises(ConfigError, match=r"has no form for GPUs; use auto, CAGRA, or .* PQ(32|64), or set") as caught:
        check_factory(dim, IndexConfig(device="cuda", factory=factory))
    assert "\n" not in str(caught.value)
    for fine in ("auto", "Flat", "IVF64,PQ32,RFlat", "IVF64,SQ8"):
        check_factory(64, IndexConfig(device="cuda", factory=fine))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_is_said_before_anything_is_done(made, monkeypatch):
    for ask in (gpu.require_faiss, gpu.require_cagra, gpu.resources):
        with pytest.raises(EnvironmentProblem, match=r"device cuda: PyTorch .* here; use cpu"):
            ask()
    with pytest.raises(EnvironmentProblem, match="device cuda"):
        put_on(made("Flat"), torch.device("cuda"), filtered=False)
    with pytest.raises(EnvironmentProblem, match="device cuda"):
        check_factory(64, IndexConfig(device="cuda"))
    with pytest.raises(ConfigError, match=r"index\.device to cuda"):
        check_factory(64, IndexConfig(factory=CAGRA))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(EnvironmentProblem, match=r"twinspire\[gpu\]"):
        check_factory(64, IndexConfig(device="cuda"))


def test_memory_that_runs_out_after_all_is_said(made, monkeypatch):
    def full(*given, **named):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(on_device, "WholeCatalogue", full)
    with pytest.raises(EnvironmentProblem, match="no memory left for the item vectors"):
        DeviceIndex(made("Flat"), CPU, Placement(False, torch.float32, 0))
