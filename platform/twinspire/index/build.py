"""Build the index: exact for small catalogues, else IVF + PQ fast-scan with refinement, probed just enough."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING

import faiss
import numpy as np
from pydantic import BaseModel, ConfigDict

from twinspire.errors import ConfigError
from twinspire.index.tune import RECALL_AT, tune
from twinspire.index.vectors import VectorIndex

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from twinspire.index.config import IndexConfig

TRAINING_POINTS_A_CENTROID = 64


class IndexSpec(BaseModel):
    """What was built and how well it finds: goes into the bundle's manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factory: str
    parameters: str
    exact: bool
    recall_at_100: float
    search_ms: float


def build_index(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], config: IndexConfig
) -> tuple[VectorIndex, IndexSpec]:
    """Index item vectors (n, D); recall and time are measured with `queries` (Q, H, D) against exact search.

    Errors: ConfigError for a factory string that FAISS refuses or that the catalogue is too small for.
    """
    exact = VectorIndex(_flat(vectors))
    factory = choose_factory(len(vectors), vectors.shape[1], config)
    if factory == "Flat":
        return exact, IndexSpec(
            factory=factory,
            parameters="",
            exact=True,
            recall_at_100=1.0,
            search_ms=_milliseconds(exact, queries),
        )
    index = _train(factory, vectors)
    built, recall = tune(index, factory, queries, exact.search(queries, RECALL_AT)[1], config.recall_target)
    return built, IndexSpec(
        factory=factory,
        parameters=built.parameters,
        exact=False,
        recall_at_100=recall,
        search_ms=_milliseconds(built, queries),
    )


def choose_factory(items: int, dim: int, config: IndexConfig) -> str:
    """The factory string for a catalogue of this size."""
    if config.factory != "auto":
        return config.factory
    if items <= config.exact_up_to:
        return "Flat"
    lists = 2 ** round(math.log2(4 * math.sqrt(items)))
    # Four bits a dimension: at half of them twice as many candidates must be compared exactly, which costs more.
    return f"IVF{lists},PQ{dim}x4fsr,RFlat"


def _flat(vectors: NDArray[np.float32]) -> faiss.Index:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index


def _train(factory: str, vectors: NDArray[np.float32]) -> faiss.Index:
    try:
        index = faiss.index_factory(vectors.shape[1], factory, faiss.METRIC_INNER_PRODUCT)
        sample = _sample(vectors, factory)
        index.train(sample)
        index.add(np.ascontiguousarray(vectors, np.float32))
    except RuntimeError as error:
        raise ConfigError(
            f"index.factory: {factory!r} does not fit {len(vectors)} items of {vectors.shape[1]}: {_reason(error)}"
        ) from None
    return index


def check_factory(dim: int, config: IndexConfig) -> None:
    """Errors: ConfigError for a factory string that FAISS cannot read or that does not fit `dim`."""
    if config.factory == "auto":
        return
    try:
        faiss.index_factory(dim, config.factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(f"index.factory: {config.factory!r} with model.dim {dim}: {_reason(error)}") from None


def _reason(error: RuntimeError) -> str:
    """What FAISS says, without the place in its source."""
    return re.sub(r"^Error in .*? at \S+?:\d+: (Error: )?", "", " ".join(str(error).split()))[:200]


def _sample(vectors: NDArray[np.float32], factory: str) -> NDArray[np.float32]:
    """As many vectors as k-means profits from; more only cost time."""
    digits = (
        "".join(c for c in factory.split("IVF")[-1].split(",")[0].split("_")[0] if c.isdigit())
        if "IVF" in factory
        else ""
    )
    wanted = max(TRAINING_POINTS_A_CENTROID * int(digits or 1), 65_536)
    if len(vectors) <= wanted:
        return np.ascontiguousarray(vectors)
    rows = np.random.default_rng(0).choice(len(vectors), wanted, replace=False)
    return np.ascontiguousarray(vectors[np.sort(rows)])


def _milliseconds(index: VectorIndex, queries: NDArray[np.float32]) -> float:
    """Mean time of one query alone, in milliseconds."""
    few = queries[:50]
    started = time.perf_counter()
    for query in few:
        index.search(query[None], RECALL_AT)
    return round((time.perf_counter() - started) / max(len(few), 1) * 1000, 4)
