"""A vector index on a device, such as a GPU: queries that are there already are searched there, and rows come back."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import faiss
import torch

from twinspire.errors import EnvironmentProblem
from twinspire.index import gpu
from twinspire.index.parameters import MOST_ON_GPU, Tuned
from twinspire.index.tensors import on_gpu, search
from twinspire.index.vectors import VectorIndex
from twinspire.index.whole import WholeCatalogue

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from twinspire.index.gpu import Placement
    from twinspire.index.parameters import Settings
    from twinspire.index.tensors import Vectors

# Candidates of a search in half precision that are compared again in full, as a multiple of K: what rounding (a part in
# 2,000) puts out of order at the end of the list is within.
AGAIN = 1.25


class DeviceIndex(VectorIndex):
    """Searching is thread-safe: of a device's index one thread searches at a time, the others wait.

    On a CPU the same is done, by FAISS and torch for CPUs.
    """

    def __init__(self, host: VectorIndex, device: torch.device, placement: Placement) -> None:
        """`host` stays as it is; what `placement` leaves out of it is not held here.

        Errors: EnvironmentProblem where the device's memory does not suffice after all.
        """
        super().__init__(host._whole, host.parameters, host.vectors)
        self._device, self._lock, self._count = device, Lock(), host.size
        self._whole_catalogue: WholeCatalogue | None = None
        try:
            if placement.whole is not None:
                vectors = host.vectors if host.vectors is not None else host.index.reconstruct_n(0, host.size)
                self._whole_catalogue = WholeCatalogue(vectors, device, placement.whole, gpu.temporary_bytes())
            if placement.compressed and device.type == "cuda" and not on_gpu(host.index):
                self.index = gpu.to_gpu(host.index, device)
                if not gpu.is_cagra(self.index):  # some versions read the graph where it came from
                    self._whole = self.index
        except torch.OutOfMemoryError:
            raise EnvironmentProblem("the GPU has no memory left for the item vectors") from None
        self._compressed = placement.compressed
        tuned = Tuned.read(host.parameters, self.index)
        if not placement.compressed:
            tuned = self._exact(placement.whole, tuned)
        self._use(tuned)

    def _exact(self, dtype: torch.dtype | None, tuned: Tuned) -> Tuned:
        """No FAISS index is needed; only what is rounded is compared again."""
        self.index = self._whole = faiss.IndexFlatIP(self.index.d)
        return tuned.refining(0.0 if dtype == torch.float32 else AGAIN)

    @property
    def size(self) -> int:
        """Items in the index."""
        return self._count

    def _nearest(
        self, queries: Vectors, k: int, settings: Settings, within: NDArray[np.uint8] | None, effort: float
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        there = torch.as_tensor(queries, device=self._device)
        flat = there.reshape(-1, queries.shape[2]).contiguous()
        with self._lock:
            if self._whole_catalogue is not None and (within is not None or not self._compressed):
                scores, rows = self._whole_catalogue.search(flat, k, within)
            else:
                most = min(k, MOST_ON_GPU) if on_gpu(self.index) else k
                scores, rows = search(self.index, flat, most, self._parameters(settings, effort, within, most))
            return scores.cpu().numpy(), rows.cpu().numpy()  # waits for the device


def put_on(host: VectorIndex, device: torch.device, *, filtered: bool, tower: int = 0) -> DeviceIndex:
    """A vector index on a device: as FAISS has it there where that has a form for it, else all vectors, compared
    exactly. `filtered` says whether searches have filters, `tower` what the query tower takes of the memory beside it.

    Errors: EnvironmentProblem where there is no such device, or not enough of its memory.
    """
    if device.type == "cuda":
        gpu.require_gpu()
    there = gpu.has_faiss() if device.type == "cuda" else True
    options = gpu.placements(host.index, filtered=filtered, faiss_there=there, temporary=gpu.temporary_bytes())
    return DeviceIndex(host, device, gpu.choose(host.index, options, gpu.free_bytes(device), tower))
