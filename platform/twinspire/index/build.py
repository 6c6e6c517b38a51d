"""Build the index: as good as exact for small catalogues, else the family that a sample shows to be cheapest, trained
on a sample, filled in blocks from the memory-mapped vectors and tuned.

What is chosen, trained and filled is kept in a work folder, so that a killed build goes on from it.
"""

from __future__ import annotations

import json
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from twinspire.errors import ConfigError
from twinspire.files import replacing
from twinspire.index import gpu
from twinspire.index.families import (
    CAGRA,
    at_size,
    choose_family,
    codes_of_all,
    new_index,
    reason,
    sampled,
    trained,
)
from twinspire.index.parameters import DEEP, SHALLOW
from twinspire.index.progress import progress
from twinspire.index.tune import BLOCK_ROWS, Measured, exact, tune
from twinspire.index.vectors import VectorIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from twinspire.index.config import IndexConfig

Seconds = dict[str, float]  # of each stage
# A query alone reads all vectors of a flat index, 4 ms for 20,000 of 256 dimensions; their codes are an eighth of that,
# and compared 16 at a time.
FLAT_UP_TO = 5_000
AS_GOOD_AS_EXACT = 0.999  # recall@100 of what takes the place of a flat index
OWN_QUERIES = 200  # items that serve as queries where there are none
DEEP_QUERIES = 300  # enough to measure recall@1,000 by
CHOSEN, TRAINED, FILLED = "chosen.json", "trained.faiss", "filled.faiss"


class IndexSpec(BaseModel):
    """What was built and how well it finds: goes into the bundle's manifest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    factory: str
    parameters: str
    exact: bool
    recall_at_100: float
    recall_at_1000: float | None = Field(None, description="none where it was not measured")
    search_ms: float
    curve: tuple[Measured, ...] = ()
    seconds: dict[str, float] = Field(default={}, description="what each stage took; of a resumed fit, what was left")


def build_index(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], config: IndexConfig, work: Path | None = None
) -> tuple[VectorIndex, IndexSpec]:
    """Index item vectors (n, D), memory-mapped or not; measured with held-out `queries` (Q, H, D) against exact search.

    Without queries, items serve as such. In the folder `work` a build that was killed goes on.
    Errors: ConfigError for a factory string that FAISS refuses or that the catalogue is too small for;
    EnvironmentProblem for a GPU that is not there.
    """
    small = config.factory == "auto" and len(vectors) <= config.exact_up_to
    if config.factory == "Flat" or (small and (len(vectors) <= FLAT_UP_TO or config.device == "cuda")):
        return _exact(vectors, queries)
    if not len(queries):
        queries = sampled(vectors, OWN_QUERIES)[:, None]
    if small:
        return _as_good_as_exact(vectors, queries, config)
    seconds: Seconds = {}
    with tempfile.TemporaryDirectory() if work is None else _folder(work) as folder:
        try:
            factory, curve = _choose(vectors, queries, config, Path(folder), seconds)
            index = _filled(factory, vectors, config, Path(folder), seconds)
        except RuntimeError as error:
            size = f"{len(vectors)} items of {vectors.shape[1]}"
            raise ConfigError(f"index.factory: {config.factory!r} does not fit {size}: {reason(error)}") from None
    return _tuned(index, factory, vectors, queries, config, curve, seconds)


def check_factory(dim: int, config: IndexConfig) -> None:
    """Errors: ConfigError for a factory string that FAISS cannot read or that does not fit `dim` or the device;
    EnvironmentProblem for a GPU that is not there.
    """
    if config.device == "cuda":
        gpu.require_faiss()
    if config.factory == CAGRA:
        if config.device != "cuda":
            raise ConfigError("index.factory: CAGRA is built on a GPU; set index.device to cuda too")
        gpu.require_cagra()
    if config.factory in ("auto", CAGRA):
        return
    try:
        index = faiss.index_factory(dim, config.factory.removesuffix(",RFlat"), faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(f"index.factory: {config.factory!r} with model.dim {dim}: {reason(error)}") from None
    if config.device == "cuda" and config.factory != "Flat" and not gpu.suits_faiss(index):
        raise ConfigError(
            f"index.factory: {config.factory!r} with model.dim {dim} has no form for GPUs; use auto, CAGRA, or IVF "
            f"lists of Flat, SQ8 or PQ{gpu.code_bytes(dim)}, or set index.device to cpu"
        )


def _exact(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> tuple[VectorIndex, IndexSpec]:
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    built = VectorIndex(index)
    spec = IndexSpec(
        factory="Flat", parameters="", exact=True, recall_at_100=1.0, search_ms=_milliseconds(built, queries)
    )
    return built, spec


def _as_good_as_exact(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], config: IndexConfig
) -> tuple[VectorIndex, IndexSpec]:
    """All items compared by short codes, the best again exactly; or all exactly, where codes miss too much."""
    factory = codes_of_all(vectors.shape[1])
    index = trained(new_index(factory, vectors.shape[1]), vectors)
    index.add(np.ascontiguousarray(vectors, np.float32))
    strict = config.model_copy(update={"recall_target": AS_GOOD_AS_EXACT})
    built, spec = _tuned(index, factory, vectors, queries, strict, [], {}, deep=False)
    if not next(one for one in spec.curve if one.chosen).reaches:
        return _exact(vectors, queries)
    return built, spec


def _tuned(
    index: Any,
    factory: str,
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    config: IndexConfig,
    curve: list[Measured],
    seconds: Seconds,
    *,
    deep: bool = True,
) -> tuple[VectorIndex, IndexSpec]:
    """The index with settings for few results and, if `deep`, for many, and what of it was measured after `curve`.

    Many results lie in more lists than few, so where all items are compared, one setting does for both.
    """
    deep = deep and config.device == "cpu" and len(vectors) > DEEP
    few = queries[:DEEP_QUERIES]
    with _stage(seconds, "measure exact search", len(vectors) * (1 + deep)) as done:
        truth = exact(vectors, queries, min(SHALLOW, len(vectors)), done)
        deep_truth = exact(vectors, few, DEEP, done) if deep else truth
    with _stage(seconds, "tune the index"):
        built, measured = tune(index, factory, vectors, queries, truth, config.recall_target)
        chosen = next(one for one in measured if one.chosen)
        if deep:
            deeper = tune(index, factory, vectors, few, deep_truth, config.recall_target)[1]
            deepest = next(one for one in deeper if one.chosen)
            built = VectorIndex(index, f"{chosen.parameters};{deepest.parameters}", vectors)
            measured += deeper
    return built, IndexSpec(
        factory=chosen.factory,
        parameters=built.parameters,
        exact=False,
        recall_at_100=chosen.recall,
        recall_at_1000=deepest.recall if deep else None,
        search_ms=_milliseconds(built, queries),
        curve=(*curve, *measured),
        seconds=seconds,
    )


def _choose(
    vectors: NDArray[np.float32],
    queries: NDArray[np.float32],
    config: IndexConfig,
    work: Path,
    seconds: dict[str, float],
) -> tuple[str, list[Measured]]:
    """The factory string for this catalogue, and what was measured to choose it."""
    if config.factory != "auto":
        return config.factory.removesuffix(",RFlat"), []  # the bundle holds the raw vectors already
    kept = work / CHOSEN
    if kept.exists():
        state = json.loads(kept.read_text())
        return state["factory"], [Measured.model_validate(one) for one in state["curve"]]
    with _stage(seconds, "choose the kind of index"):
        family, curve = choose_family(vectors, queries, config)
    factory = at_size(family, len(vectors), config.device)
    with replacing(kept) as path:
        path.write_text(json.dumps({"factory": factory, "curve": [one.model_dump() for one in curve]}))
    return factory, curve


def _filled(factory: str, vectors: NDArray[np.float32], config: IndexConfig, work: Path, seconds: Seconds) -> Any:
    """The index of all vectors: from the work folder, or trained and filled block by block."""
    if (work / FILLED).exists():
        return faiss.read_index(str(work / FILLED))
    index = _trained(factory, vectors, config, work, seconds)
    if index.ntotal < len(vectors):
        with _stage(seconds, "fill the index", len(vectors)) as done:
            for first in range(0, len(vectors), BLOCK_ROWS):
                block = np.ascontiguousarray(vectors[first : first + BLOCK_ROWS], np.float32)
                index.add(block)
                done(len(block))
    _keep(index, config, work / FILLED)
    (work / TRAINED).unlink(missing_ok=True)
    return index


def _trained(factory: str, vectors: NDArray[np.float32], config: IndexConfig, work: Path, seconds: Seconds) -> Any:
    if (work / TRAINED).exists():
        return faiss.read_index(str(work / TRAINED))
    with _stage(seconds, "train the index"):
        index = trained(new_index(factory, vectors.shape[1], config.device), vectors)
    _keep(index, config, work / TRAINED)
    return index


def _keep(index: Any, config: IndexConfig, path: Path) -> None:
    """Write an index for a build that goes on; one on a GPU is built again."""
    if config.device == "cpu":
        with replacing(path) as beside:
            faiss.write_index(index, str(beside))


@contextmanager
def _stage(seconds: Seconds, name: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Shown and timed."""
    started = time.perf_counter()
    with progress(name, total) as done:
        yield done
    seconds[name] = round(time.perf_counter() - started, 1)


@contextmanager
def _folder(work: Path) -> Iterator[Path]:
    work.mkdir(parents=True, exist_ok=True)
    yield work


def _milliseconds(index: VectorIndex, queries: NDArray[np.float32]) -> float:
    """Mean time of one query alone, in milliseconds."""
    few = queries[:50]
    started = time.perf_counter()
    for query in few:
        index.search(query[None], SHALLOW)
    return round((time.perf_counter() - started) / max(len(few), 1) * 1000, 4)
