"""Which kind of index: each candidate built and tuned on a sample of the items, the cheapest that finds enough wins."""

from __future__ import annotations

import math
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import torch

from twinspire.index import gpu
from twinspire.index.parameters import innermost
from twinspire.index.tensors import on_gpu
from twinspire.index.tune import Measured, exact, one_thread, tune

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from twinspire.index.config import IndexConfig

CAGRA = "CAGRA"  # FAISS has no factory string for it
SAMPLE_ITEMS = 262_144
SAMPLE_QUERIES = 200
# A graph takes some 0.1 ms of a core for each item that is added, and more in a larger one: hours at 15 million.
GRAPH_UP_TO = 2_000_000
POINTS_A_CENTRE = 32  # k-means gains nothing measurable from more
LEAST_POINTS = 65_536
MANY_CENTRES = 8192  # from here on the nearest are found through a graph over them
GRAPH_LINKS = 32
GRAPH_EFFORT = 200  # of building it: FAISS's own 40 loses 4 % of 16,384 centres' 53 nearest, this 0.4 %
ABOUT = 1.25  # times the least cost
DEAR = 1.5  # a family that costs so many times the best so far is not looked into further

api: Any = faiss  # what its type stubs lack or say wrongly


def families(dim: int, items: int, device: str) -> list[str]:
    """Factory strings of the candidates, with `{lists}` for the number of lists, the most promising first."""
    if device == "cuda":
        lists = f"IVF{{lists}},PQ{gpu.code_bytes(dim)}"
        return [lists, CAGRA] if hasattr(faiss, "GpuIndexCagra") else [lists]
    half = [f"IVF{{lists}},PQ{dim // 2}x4fsr"] if dim % 2 == 0 else []
    graph = [f"HNSW32,PQ{dim // 2}x4"] if dim % 2 == 0 and items <= GRAPH_UP_TO else []
    return [f"IVF{{lists}},PQ{dim}x4fsr", *half, "IVF{lists},SQ8", *graph]


def codes_of_all(dim: int) -> str:
    """The factory string of one list that is always looked at: four bits for two dimensions, or for one where those are
    odd."""
    return f"IVF1,PQ{dim // 2 if dim % 2 == 0 else dim}x4fsr"


def at_size(family: str, items: int, device: str = "cpu") -> str:
    """The factory string of a family for this many items: some 4 sqrt(n) lists, many of which are found through a graph
    over their centres. Of 16,384 that takes a single query 0.2 ms where comparing them all takes 1.5."""
    lists = 2 ** round(math.log2(4 * math.sqrt(items)))
    graph = f"_HNSW{GRAPH_LINKS}" if lists >= MANY_CENTRES and device == "cpu" else ""
    return family.replace("{lists}", f"{lists}{graph}")


def choose_family(
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    config: IndexConfig,
    said: Callable[[str], None] = lambda family: None,
) -> tuple[str, list[Measured]]:
    """The family that reaches the recall target at least cost on a sample of `vectors` (n, D), and all measured.

    `said(family)` hears which one is being tried. Where none reaches the target, the one of the highest recall wins.
    """
    sample = sampled(vectors, SAMPLE_ITEMS)
    asked = queries[:SAMPLE_QUERIES]
    truth = exact(sample, asked, min(100, len(sample)))
    curve: list[Measured] = []
    ends: dict[str, Measured] = {}
    for family in families(vectors.shape[1], len(vectors), config.device):
        said(family)
        factory = at_size(family, len(sample), config.device)
        index = trained(new_index(factory, vectors.shape[1], config.device), sample)
        if index.ntotal == 0:
            index.add(sample)
        limit = DEAR * min((end.ms for end in ends.values() if end.reaches), default=np.inf)
        measured = tune(index, factory, sample, asked, truth, config.recall_target, limit)[1]
        ends[family] = next(one for one in measured if one.chosen)
        curve += [one.model_copy(update={"chosen": False, "trial": True}) for one in measured]
    return preferred(ends), curve


def preferred(ends: Mapping[str, Measured]) -> str:
    """The first family that costs about the least of those that reach the target; if none does, the highest recall.

    A sample says no more than about: its times are a little noisy, and in the whole catalogue short codes tell less
    apart and have more vectors read, from memory that no cache holds. The first families are those of longer codes.
    """
    costs = {family: end.ms for family, end in ends.items() if end.reaches}
    if not costs:
        return max(ends, key=lambda family: ends[family].recall)
    return next(family for family, ms in costs.items() if ms <= ABOUT * min(costs.values()))


def new_index(factory: str, dim: int, device: str = "cpu") -> Any:
    """An empty index. Errors: RuntimeError for a factory string that FAISS refuses; EnvironmentProblem for no GPU."""
    if factory == CAGRA:
        gpu.require_cagra()
        return api.GpuIndexCagra(gpu.resources(), dim, faiss.METRIC_INNER_PRODUCT, api.GpuIndexCagraConfig())
    index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    return gpu.to_gpu(index, torch.device("cuda")) if device == "cuda" else index


def trained(index: Any, vectors: NDArray[np.float32]) -> Any:
    """Train `index` on a sample of `vectors` (n, D) and give it back; CAGRA trains on all, and holds them then."""
    if gpu.is_cagra(index):
        index.held = np.ascontiguousarray(vectors, np.float32)  # it is read again when the index is saved
        index.train(index.held)
        return index
    ivf = faiss.try_extract_index_ivf(index)
    if on_gpu(innermost(index)):
        ivf = innermost(index) if hasattr(innermost(index), "nlist") else None
    wanted = LEAST_POINTS
    if ivf is not None:
        wanted = max(wanted, POINTS_A_CENTRE * ivf.nlist)
        ivf.cp.min_points_per_centroid = POINTS_A_CENTRE // 2
    sample = sampled(vectors, wanted)
    if isinstance(index, faiss.IndexIVF):
        through = faiss.downcast_index(index.quantizer)
        if isinstance(through, faiss.IndexHNSW):
            through.hnsw.efConstruction = GRAPH_EFFORT
        centres: Any = index
        near = faiss.IndexHNSWFlat(index.d, GRAPH_LINKS, faiss.METRIC_INNER_PRODUCT)
        if index.nlist >= MANY_CENTRES:
            centres.clustering_index = near
        centres.train_q1(len(sample), faiss.swig_ptr(sample), False, faiss.METRIC_INNER_PRODUCT)
        centres.clustering_index = None
    if isinstance(index, faiss.IndexHNSWPQ):
        codes: Any = faiss.downcast_index(index.storage)
        codes.do_polysemous_training = False  # codes are compared by distance only
    # Codebooks are many small k-means: threads that wait for each other make them some twenty times slower.
    with one_thread() if not isinstance(index, faiss.IndexPreTransform) else nullcontext():
        index.train(sample)
    return index


def sampled(vectors: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Up to `count` of `vectors` (n, D), in memory, in their order."""
    if len(vectors) <= count:
        return np.ascontiguousarray(vectors)
    rows = np.random.default_rng(0).choice(len(vectors), count, replace=False)
    return np.ascontiguousarray(vectors[np.sort(rows)])


def reason(error: RuntimeError) -> str:
    """What FAISS says, without the place in its source."""
    return re.sub(r"^Error in .*? at \S+?:\d+: (Error: )?", "", " ".join(str(error).split()))[:200]
