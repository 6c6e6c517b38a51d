"""All vectors on a device, compared exactly: a matrix product a block, the best of each block kept.

One pass over the catalogue answers a batch, whatever its filters: 15 million items of 64 dimensions in half precision
are 1.9 GB. Needs torch alone, so it works on every GPU and for every bundle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from twinspire.model.lookup import moved

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

COPIED_ROWS = 262_144  # on their way to the device at once
BYTES_A_SCORE = 16  # while a block's best are chosen: the product, the same in float32, what sorts it


class WholeCatalogue:
    """Item vectors (n, D) on a device. Immutable; `temporary` bounds the bytes that a search takes beside them."""

    def __init__(
        self, vectors: NDArray[np.float32], device: torch.device, dtype: torch.dtype, temporary: int = 256 << 20
    ) -> None:
        self._temporary = temporary
        self._vectors = torch.empty(vectors.shape, dtype=dtype, device=device)
        for first in range(0, len(vectors), COPIED_ROWS):
            part = torch.tensor(vectors[first : first + COPIED_ROWS])  # a copy: a memory map is not to be written to
            self._vectors[first : first + COPIED_ROWS] = part.to(device)

    @torch.inference_mode()
    def search(
        self, queries: torch.Tensor, k: int, within: NDArray[np.uint8] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The `k` best of queries (Q, D) on the device: scores (Q, k) f32 and rows (Q, k) i64, best first, there too.

        `within` is a bitmap (ceil(n / 8),) of the rows that may be found, lowest bit first. Rows are -1, scores -inf,
        where there are fewer.
        """
        device, count = queries.device, len(self._vectors)
        asked = queries.to(self._vectors.dtype)
        allowed = None if within is None else _bits(moved(within, device))
        scores = torch.full((len(queries), k), -torch.inf, device=device)
        rows = torch.full((len(queries), k), -1, dtype=torch.int64, device=device)
        step = block_rows(len(queries), self._temporary)
        for first in range(0, count, step):
            product = (asked @ self._vectors[first : first + step].T).float()
            if allowed is not None:
                product.masked_fill_(~allowed[first : first + product.shape[1]], -torch.inf)
            best, place = product.topk(min(k, product.shape[1]))
            place = torch.where(best == -torch.inf, -1, place + first)
            scores, order = torch.cat([scores, best], dim=1).topk(k)
            rows = torch.cat([rows, place], dim=1).gather(1, order)
        return scores, rows


def block_rows(queries: int, temporary: int) -> int:
    """Items that are compared with so many queries at once in `temporary` bytes; a multiple of 8, for bitmaps."""
    return max(temporary // (BYTES_A_SCORE * max(queries, 1)) // 8 * 8, 1024)


def _bits(bitmap: torch.Tensor) -> torch.Tensor:
    """Bytes (m,) to booleans (8 m,), lowest bit first."""
    shifts = torch.arange(8, dtype=torch.uint8, device=bitmap.device)
    return ((bitmap[:, None] >> shifts) & 1).flatten().bool()
