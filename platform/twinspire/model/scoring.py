"""How a query's heads and an item become one score: soft in training (equation 1), the best head in retrieval (4.3)."""

from __future__ import annotations

import torch


def soft_dot_product(queries: torch.Tensor, items: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation (1): queries (B, H, D) and items (M, D) to scores (B, M).

    The inner products of the H heads are averaged with their own softmax at `temperature` (beta) as weights: near
    0 it is
    the largest of them, at infinity their mean.
    """
    if queries.shape[1] == 1:
        return queries[:, 0] @ items.T
    products = torch.einsum("bhd,md->bhm", queries, items)  # (B, H, M)
    return (torch.softmax(products / temperature, dim=1) * products).sum(dim=1)


def best_head(queries: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """The largest inner product over heads: queries (B, H, D) and items (M, D) to scores (B, M)."""
    return torch.einsum("bhd,md->bhm", queries, items).amax(dim=1)
