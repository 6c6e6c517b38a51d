"""Whether a query tower's heads (4.2) differ and are all of use, and which head finds what.

Heads collapse in two ways: they become one vector (cosine 1), or one head wins every item and the others, never best,
learn nothing (its share 1). The measures tell the two apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vectors = NDArray[np.float32]

_SCORES_A_BLOCK = 1 << 24


class HeadMeasures(BaseModel):
    """How the heads of many queries differ, over each query's K best items. One head alone collapses by definition."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    heads: int
    queries: int
    k: int
    cosine: float = Field(description="mean cosine between two heads of a query; 1: they are one vector")
    overlap: float = Field(description="mean share of one head's own K best that another head's K best hold")
    share: tuple[float, ...] = Field(description="share of the final results that each head brings")
    alone: float = Field(description="share of queries whose final results one head brings alone")

    def figures(self) -> dict[str, float]:
        """As metrics for MLflow."""
        named = {"heads/cosine": self.cosine, "heads/overlap": self.overlap, "heads/alone": self.alone}
        return named | {f"heads/share_{head + 1}": share for head, share in enumerate(self.share)}


def measure_heads(queries: Vectors, items: Vectors, k: int = 10) -> HeadMeasures:
    """Measure query vectors (Q, H, D) against the catalogue's vectors (n, D), exactly. Raises ValueError where Q is 0.

    A query's final results are the K best items by their best head (4.3).
    """
    count, heads, _ = queries.shape
    if count == 0:
        raise ValueError("no queries to measure heads with")
    k = min(k, len(items))
    block = max(1, _SCORES_A_BLOCK // (heads * len(items)))
    brought = np.zeros((count, heads), np.int64)
    common = np.zeros(count)
    for start in range(0, count, block):
        part = slice(start, start + block)
        products = queries[part] @ items.T  # (B, H, n)
        _, head = best_by_any_head(products, k)
        brought[part] = (head[:, :, None] == np.arange(heads)).sum(1)
        common[part] = _overlap(top(products, k))
    return HeadMeasures(
        heads=heads,
        queries=count,
        k=k,
        cosine=float(_between_heads(queries @ queries.transpose(0, 2, 1)).mean()),
        overlap=float(common.mean()),
        share=tuple(float(share) for share in brought.sum(0) / brought.sum()),
        alone=float((brought.max(1) == k).mean()),
    )


def top(products: Vectors, k: int) -> NDArray[np.int64]:
    """Rows of the `k` largest along the last axis (..., n), largest first, the lower row first among equals found."""
    k = min(k, products.shape[-1])
    found = np.sort(np.argpartition(-products, k - 1, axis=-1)[..., :k], axis=-1)
    order = np.argsort(-np.take_along_axis(products, found, -1), axis=-1, kind="stable")
    return np.take_along_axis(found, order, -1).astype(np.int64)


def best_by_any_head(products: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Products (B, H, n) to the K best items by their best head, and that head, (B, K) each."""
    rows = top(products.max(1), k)
    return rows, np.take_along_axis(products.argmax(1), rows, 1)


def _overlap(own: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each head's K best (B, H, K) to the mean share that two heads have in common, (B,)."""
    same = own[:, :, None, :, None] == own[:, None, :, None, :]  # (B, H, H, K, K)
    return _between_heads(same.any(-1).mean(-1))


def _between_heads(table: NDArray[np.floating]) -> NDArray[np.float64]:
    """Mean over pairs of different heads of (B, H, H), (B,); of one head with itself where there is one."""
    heads = table.shape[1]
    if heads == 1:
        return np.asarray(table[:, 0, 0], np.float64)
    others = table.sum((1, 2), dtype=np.float64) - np.trace(table, axis1=1, axis2=2)
    return np.asarray(others / (heads * (heads - 1)), np.float64)
