"""Tensors into FAISS and out of it without a copy: torch gives the addresses, and FAISS reads and writes there.

On a CPU and on a GPU alike; a tensor and the index it goes into are on the same device. FAISS's own
`contrib.torch_utils` does the same, but gives every index of the process a `search` that takes no parameters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

api: Any = faiss  # what its type stubs lack or say wrongly

Vectors: TypeAlias = NDArray[np.float32] | torch.Tensor  # where they are, there they are searched


def search(index: Any, queries: torch.Tensor, k: int, parameters: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The `k` best items of queries (Q, D), float32 and contiguous, on the index's device: scores (Q, k) f32 and rows
    (Q, k) i64, there too; rows are -1 where short.

    Errors: ValueError for queries on another device, which FAISS would take for addresses of its own.
    """
    if queries.is_cuda != on_gpu(index) or queries.dtype != torch.float32 or not queries.is_contiguous():
        raise ValueError(f"{queries.dtype} on {queries.device} does not go into {type(index).__name__}")
    scores = torch.empty((len(queries), k), dtype=torch.float32, device=queries.device)
    rows = torch.empty((len(queries), k), dtype=torch.int64, device=queries.device)
    index.search_c(
        len(queries),
        api.cast_integer_to_float_ptr(queries.data_ptr()),
        k,
        api.cast_integer_to_float_ptr(scores.data_ptr()),
        api.cast_integer_to_idx_t_ptr(rows.data_ptr()),
        parameters,
    )
    return scores, rows


def on_gpu(index: Any) -> bool:
    """Whether an index is in a GPU's memory."""
    return hasattr(faiss, "GpuIndex") and isinstance(index, faiss.GpuIndex)


def on_host(vectors: Vectors) -> NDArray[np.float32]:
    """As an array; without a copy from a CPU's memory."""
    return vectors.cpu().numpy() if isinstance(vectors, torch.Tensor) else vectors


def stacked(vectors: Sequence[Vectors]) -> Vectors:
    """B times (H, D) to (B, H, D), where they are."""
    if isinstance(vectors[0], torch.Tensor):
        return torch.stack(cast("list[torch.Tensor]", vectors))
    return np.stack(cast("list[NDArray[np.float32]]", vectors))
