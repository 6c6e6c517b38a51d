"""Search parameters: read once from their text, given to FAISS with each search, so that no search changes the index.

Filters: every IVF index takes them (flat, SQ8, PQ, fast-scan), every HNSW index, and flat and SQ8 without lists. PQ
without lists does not. Of the indexes on a GPU most ignore a filter without a word, so none is given one.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import faiss

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

api: Any = faiss  # what its type stubs lack or say wrongly
MOST_ON_GPU = 2048  # lists that a GPU looks into, and results that it gives
CAGRA_BREADTH = 64  # FAISS's own
SHALLOW, DEEP = 100, 1000  # results of a search that settings are tuned for
LEAST_EF = 64  # of a graph over the centres of lists: at FAISS's own 16 it misses near ones


class Settings(NamedTuple):
    """`breadth`: how many lists (IVF) or candidates (HNSW, CAGRA) are looked at; `refine`: candidates compared exactly,
    as a multiple of K."""

    breadth: int
    refine: float
    grows: bool = False  # with the number of results, as CAGRA keeps no fewer candidates than it is asked for

    @classmethod
    def read(cls, parameters: str, index: Any) -> Settings:
        """From `nprobe=16,refine=3`; what is not said is as FAISS has it. `k_factor_rf` is an older name."""
        named = {
            name: float(value) for name, _, value in (part.partition("=") for part in parameters.split(",") if part)
        }
        default = named.get("k_factor_rf", 0.0)
        inner = innermost(index)
        cagra = is_gpu_kind(inner, "GpuIndexCagra")
        own = inner.hnsw.efSearch if isinstance(inner, faiss.IndexHNSW) else getattr(inner, "nprobe", 1)
        given = named.get("nprobe", named.get("efSearch", named.get("itopk_size")))
        breadth = given or (CAGRA_BREADTH if cagra else own)
        return cls(int(breadth), named.get("refine", default), cagra)

    def for_search(self, index: Any, effort: float, within: NDArray[np.uint8] | None, k: int = 1) -> Any:
        """What FAISS takes with one search for `k` results; None where there is nothing to say.

        Errors: NotImplementedError for a filter that the index cannot apply.
        """
        if isinstance(index, faiss.IndexPreTransform):
            inner = self.for_search(innermost(index), effort, within, k)
            return None if inner is None else api.SearchParametersPreTransform(index_params=inner)
        breadth = max(math.ceil(self.breadth * effort), 1)
        chosen = {} if within is None else {"sel": api.IDSelectorBitmap(within)}
        if isinstance(index, faiss.IndexIVF):
            probes = min(breadth, index.nlist)
            return api.SearchParametersIVF(nprobe=probes, **_of_centres(index, probes), **chosen)
        if isinstance(index, faiss.IndexHNSW):
            return api.SearchParametersHNSW(efSearch=max(min(breadth, index.ntotal), 1), **chosen)
        if chosen and not isinstance(index, faiss.IndexFlat | faiss.IndexScalarQuantizer):
            raise NotImplementedError(f"{type(index).__name__} cannot search within a part of the catalogue")
        if is_gpu_kind(index, "GpuIndexIVF"):
            return api.SearchParametersIVF(nprobe=min(breadth, index.nlist, MOST_ON_GPU))
        if is_gpu_kind(index, "GpuIndexCagra"):
            return api.SearchParametersCagra(itopk_size=max(min(breadth, MOST_ON_GPU), k))
        return api.SearchParameters(**chosen) if chosen else None


class Tuned(NamedTuple):
    """Settings for SHALLOW results and fewer, and for DEEP results and more. The more results, the more lists they lie
    in, and the fewer candidates each of them needs beside it."""

    shallow: Settings
    deep: Settings

    @classmethod
    def read(cls, parameters: str, index: Any) -> Tuned:
        """From the settings of both, `nprobe=16,refine=3;nprobe=30,refine=1.25`, or from one for all."""
        shallow, _, deep = parameters.partition(";")
        return cls(Settings.read(shallow, index), Settings.read(deep or shallow, index))

    def refining(self, factor: float) -> Tuned:
        """The same with another factor of refinement for all."""
        return Tuned(self.shallow._replace(refine=factor), self.deep._replace(refine=factor))

    @lru_cache(maxsize=4096)  # noqa: B019  immutable, a few in a process
    def at(self, k: int) -> Settings:
        """For `k` results: between the two, on the line between their logarithms."""
        share = min(max(math.log(max(k, 1) / SHALLOW) / math.log(DEEP / SHALLOW), 0.0), 1.0)
        if share in (0.0, 1.0) or self.shallow == self.deep:
            return self.deep if share == 1.0 else self.shallow
        refine = _between(self.shallow.refine, self.deep.refine, share)
        breadth = _between(self.shallow.breadth, self.deep.breadth, share)
        return Settings(math.ceil(breadth), refine, self.shallow.grows)


def breadth_name(index: Any) -> str:
    """What the breadth of a search is called for this index; empty where there is none."""
    inner = innermost(index)
    if isinstance(inner, faiss.IndexHNSW):
        return "efSearch"
    if isinstance(inner, faiss.IndexIVF) or is_gpu_kind(inner, "GpuIndexIVF"):
        return "nprobe"
    return "itopk_size" if is_gpu_kind(inner, "GpuIndexCagra") else ""


def is_gpu_kind(index: Any, name: str) -> bool:
    """Whether an index is of a class that FAISS has in some of its builds only."""
    return hasattr(faiss, name) and isinstance(index, getattr(faiss, name))


def innermost(index: Any) -> Any:
    """The index behind a rotation."""
    return faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index


def _of_centres(index: Any, probes: int) -> dict[str, Any]:
    """Parameters of the search for the nearest centres, where they lie in a graph."""
    if not isinstance(faiss.downcast_index(index.quantizer), faiss.IndexHNSW):
        return {}
    return {"quantizer_params": api.SearchParametersHNSW(efSearch=max(2 * probes, LEAST_EF))}


def _between(low: float, high: float, share: float) -> float:
    """`low` at share 0, `high` at share 1; in equal steps, equal factors."""
    return float(low * (high / low) ** share) if low and high else max(low, high)
