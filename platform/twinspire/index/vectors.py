"""The index over item vectors: FAISS behind one interface for CPU and GPU, flat and compressed, one head and many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import faiss
import numpy as np

from twinspire.errors import BundleError, EnvironmentProblem

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Queries from which FAISS compares a batch with flat vectors (a small catalogue, the centres of IVF lists) as one
# matrix product, which reads those vectors once. Its own 20 is more than a server's batch mostly has.
MATRIX_PRODUCT_FROM = 4


class VectorIndex:
    """Inner-product search over the catalogue. Searching is thread-safe on the CPU; on a GPU one thread at a time."""

    def __init__(self, index: Any, parameters: str = "") -> None:
        """`parameters` are FAISS search parameters such as `nprobe=16,k_factor_rf=4`."""
        self.index = index
        self.parameters = parameters
        faiss.cvar.distance_compute_blas_threshold = MATRIX_PRODUCT_FROM
        if parameters:
            space: Any = faiss.ParameterSpace()
            space.set_index_parameters(index, parameters)

    @property
    def size(self) -> int:
        """Items in the index."""
        return int(self.index.ntotal)

    def search(
        self, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int8]]:
        """Queries (B, H, D) to the K best items by their best head (4.3): scores, item rows, heads, (B, K) each.

        All heads are searched in one call. Rows are -1, scores -inf, where there are fewer than K.
        """
        batch, heads, dim = queries.shape
        wide = min(k, self.size)
        scores, rows = self.index.search(np.ascontiguousarray(queries.reshape(batch * heads, dim)), max(wide, 1))
        if heads == 1:
            head = np.zeros(rows.shape, np.int8)
        else:
            shape = (batch, heads, rows.shape[1])
            scores, rows, head = merge_heads(scores.reshape(shape), rows.reshape(shape), wide)
        return _pad(scores, rows, head, k)

    def candidates(
        self, queries: NDArray[np.float32], k: int, *, within: NDArray[np.uint8] | None = None, effort: float = 1.0
    ) -> NDArray[np.int64]:
        """Rows (B, H * K) that are near queries (B, H, D), -1 where short, to be compared exactly."""
        batch, heads, dim = queries.shape
        wide = max(min(k, self.size), 1)
        parameters: Any = None
        if within is not None:
            module: Any = faiss  # whose types leave these out
            parameters = module.SearchParameters(sel=module.IDSelectorBitmap(within))
        rows: NDArray[np.int64]
        _, rows = self.index.search(np.ascontiguousarray(queries.reshape(batch * heads, dim)), wide, params=parameters)
        return rows.reshape(batch, -1)

    def save(self, path: Path) -> None:
        """Write the index, from the GPU's memory too."""
        index = self.index
        if hasattr(faiss, "GpuIndex") and isinstance(index, faiss.GpuIndex):
            index = faiss.index_gpu_to_cpu(index)
        faiss.write_index(index, str(path))

    @classmethod
    def load(cls, path: Path, parameters: str = "", device: str = "cpu") -> VectorIndex:
        """Read what `save` wrote, onto `device`.

        Errors: BundleError for a file that is no index; EnvironmentProblem for a GPU that is not there.
        """
        try:
            index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise BundleError(f"{path.name}: not a readable FAISS index ({str(error).splitlines()[0][:200]})") from None
        loaded = cls(index, parameters)
        return loaded.to_gpu() if device == "cuda" else loaded

    def to_gpu(self) -> VectorIndex:
        """The same index on the first GPU.

        Errors: EnvironmentProblem where FAISS has no GPU support or there is no GPU.
        """
        if not hasattr(faiss, "StandardGpuResources") or faiss.get_num_gpus() == 0:
            raise EnvironmentProblem(
                "index.device: cuda needs a GPU and the faiss-gpu package; install twinspire[gpu] or use cpu"
            )
        moved = VectorIndex(faiss.index_cpu_to_gpu(_gpu_resources(), 0, self.index))
        if "nprobe=" in self.parameters:
            moved.index.nprobe = int(self.parameters.split("nprobe=")[1].split(",")[0])
        moved.parameters = self.parameters
        return moved


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


def _gpu_resources() -> Any:
    """One set of GPU resources a call: they must not be shared between threads. Temporary memory is bounded."""
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(256 * 2**20)
    return resources
