"""The index over item vectors: FAISS behind one interface for CPU and GPU, flat and compressed, one head and many."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from twinspire.errors import BundleError
from twinspire.index.parameters import Settings, Tuned, innermost
from twinspire.index.rerank import rerank
from twinspire.index.tensors import on_gpu, on_host

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from twinspire.index.tensors import Vectors

# Queries from which FAISS compares a batch with flat vectors (a small catalogue, the centres of IVF lists) as one
# matrix product, which reads those vectors once. Its own 20 is more than a server's batch mostly has.
MATRIX_PRODUCT_FROM = 4
# How FAISS scans lists of PQ codes: each query its own lists, the best kept in a reservoir. Of its own accord it takes
# the queries of a batch list by list, which costs a tenth more at the sizes of batches that a server has.
BY_QUERY = 11


class VectorIndex:
    """Inner-product search over the catalogue. Searching is thread-safe; not where `index` is in a GPU's memory.

    `index` holds the items compressed; what it finds is compared again with the raw `vectors` (n, D), memory-mapped as
    a rule, so that scores are exact.
    """

    def __init__(self, index: Any, parameters: str = "", vectors: NDArray[np.float32] | None = None) -> None:
        """`parameters` such as `nprobe=16,refine=3`: lists looked into (`efSearch`: candidates of a graph) and how many
        times K candidates are compared exactly, 0: none; after a semicolon the same for large K (see `Tuned`). Without
        `vectors` scores are the compressed index's own.
        """
        self._whole = index  # of an older bundle, it owns what is taken from it
        self.index, own = _without_refinement(index)
        self.parameters = parameters
        # A plain array over a memory map: compiled code takes long to find out what a memmap is.
        self.vectors = own if vectors is None else np.asarray(vectors)
        self._use(Tuned.read(parameters, self.index))
        faiss.cvar.distance_compute_blas_threshold = MATRIX_PRODUCT_FROM
        if isinstance(inner := innermost(self.index), faiss.IndexIVFFastScan):
            inner.implem = BY_QUERY

    def _use(self, tuned: Tuned) -> None:
        """Search with these settings from now on."""
        self._tuned = tuned if self.vectors is not None else tuned.refining(0.0)
        self._usual: dict[Settings, Any] = {}  # what FAISS takes for them without filters

    @property
    def size(self) -> int:
        """Items in the index."""
        return int(self.index.ntotal)

    def search(
        self, queries: Vectors, k: int, *, within: NDArray[np.uint8] | None = None, effort: float = 1.0
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8]]:
        """Queries (B, H, D) to the K best items by their best head (4.3): scores, item rows, heads, (B, K) each.

        `within` is a bitmap (ceil(n / 8),) of the rows that may be found, lowest bit first; `effort` multiplies the
        lists or candidates looked at. All heads are searched in one call. Rows are -1, scores -inf, where there are
        fewer than K.
        Errors: NotImplementedError for `within` where the index cannot filter: FAISS on a GPU, and PQ without lists.
        """
        batch, heads, _ = queries.shape
        settings = self._tuned.at(k)
        if self.vectors is not None and settings.refine:
            rows = self.candidates(queries, k, within=within, effort=effort)
            return rerank(on_host(queries), self.vectors, rows, k)
        wide = min(k, self.size)
        scores, rows = self._nearest(queries, max(wide, 1), settings, within, effort)
        if heads == 1:
            head = np.zeros(rows.shape, np.int8)
        else:
            shape = (batch, heads, rows.shape[1])
            scores, rows, head = merge_heads(scores.reshape(shape), rows.reshape(shape), wide)
        return _pad(scores, rows, head, k)

    def candidates(
        self,
        queries: Vectors,
        k: int,
        *,
        spare: int = 0,
        within: NDArray[np.uint8] | None = None,
        effort: float = 1.0,
    ) -> NDArray[np.int64]:
        """Queries (B, H, D) to item rows (B, H * K'), each head's own, K' >= K + spare: so many that the K best by
        exact scores are found as often as was tuned for. An item may come once a head; -1 where there are fewer.

        `within`, `effort` and errors as in `search`.
        """
        batch, heads, _ = queries.shape
        settings = self._tuned.at(k)
        wide = max(min(math.ceil((k + spare) * max(settings.refine, 1.0)), self.size), 1)
        rows = self._nearest(queries, wide, settings, within, effort)[1]
        return rows.reshape(batch, heads * rows.shape[1])

    def _nearest(
        self, queries: Vectors, k: int, settings: Settings, within: NDArray[np.uint8] | None, effort: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Scores and rows of the `k` best of each head of queries (B, H, D), (B * H, k) each."""
        flat = np.ascontiguousarray(on_host(queries).reshape(-1, queries.shape[2]))
        scores, rows = self.index.search(flat, k, params=self._parameters(settings, effort, within, k))
        return np.asarray(scores), np.asarray(rows)

    def _parameters(self, settings: Settings, effort: float, within: NDArray[np.uint8] | None, k: int) -> Any:
        if effort == 1.0 and within is None and not settings.grows:
            if settings not in self._usual:
                self._usual[settings] = settings.for_search(self.index, 1.0, None)
            return self._usual[settings]
        return settings.for_search(self.index, effort, within, k)

    def save(self, path: Path) -> None:
        """Write the compressed index, from the GPU's memory too; the raw vectors are not part of it."""
        held = on_gpu(innermost(self.index))
        faiss.write_index(faiss.index_gpu_to_cpu(self.index) if held else self.index, str(path))

    @classmethod
    def load(cls, path: Path, parameters: str = "", vectors: NDArray[np.float32] | None = None) -> VectorIndex:
        """Read what `save` wrote; `vectors` as for the index itself.

        Errors: BundleError for a file that is no index.
        """
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise BundleError(f"{path.name}: not a readable FAISS index ({str(error).splitlines()[0][:200]})") from None
        return cls(index, parameters, vectors)


def merge_heads(
    scores: NDArray[np.float32], rows: NDArray[np.int64], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8]]:
    """Each head's results (B, H, K') to one list of the best `k`, an item once, with its best head."""
    batch, heads, width = scores.shape
    flat_scores, flat_rows = scores.reshape(batch, heads * width), rows.reshape(batch, heads * width)
    head = np.repeat(np.arange(heads, dtype=np.int8), width)[None].repeat(batch, 0)
    order = np.lexsort((-flat_scores, flat_rows), axis=1)  # by item, best first
    sorted_rows = np.take_along_axis(flat_rows, order, 1)
    repeated = np.zeros(sorted_rows.shape, bool)
    repeated[:, 1:] = sorted_rows[:, 1:] == sorted_rows[:, :-1]
    repeated |= sorted_rows < 0
    kept = np.where(repeated, -np.inf, np.take_along_axis(flat_scores, order, 1))
    best = np.argsort(-kept, axis=1, kind="stable")[:, :k]
    merged = np.take_along_axis(kept, best, 1).astype(np.float32)
    chosen = np.take_along_axis(order, best, 1)
    items = np.where(np.isinf(merged), -1, np.take_along_axis(flat_rows, chosen, 1))
    return merged, items, np.take_along_axis(head, chosen, 1)


def _pad(
    scores: NDArray[np.float32], rows: NDArray[np.int64], head: NDArray[np.int8], k: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8]]:
    scores = np.where(rows < 0, -np.inf, scores).astype(np.float32, copy=False)
    missing = k - rows.shape[1]
    if missing <= 0:
        return scores, rows, head
    wide = ((0, 0), (0, missing))
    return (
        np.pad(scores, wide, constant_values=-np.inf),
        np.pad(rows, wide, constant_values=-1),
        np.pad(head, wide),
    )


def _without_refinement(index: Any) -> tuple[Any, NDArray[np.float32] | None]:
    """The compressed index, and the raw vectors that older bundles keep in it too."""
    if not isinstance(index, faiss.IndexRefine):
        return index, None
    base = faiss.downcast_index(index.base_index)
    flat: Any = faiss.downcast_index(index.refine_index)
    raw = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d).reshape(flat.ntotal, flat.d)
    return base, raw
