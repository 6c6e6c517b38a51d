"""How a query's heads and an item become one score: soft in training (equation 1), the best head in retrieval (4.3)."""

from __future__ import annotations

import torch


def soft_dot_product(queries: torch.Tensor, items: torch.Tensor, temperature: float) -> torch.Tensor:
    """Equation (1): queries (B, H, D) and items (M, D) to scores (B, M).

    The inner products of the H heads are averaged with their own softmax at `temperature` (beta) as weights: near
    0 it is the largest of them, at infinity their mean.
    """
    if queries.shape[1] == 1:
        return queries[:, 0] @ items.T
    products = torch.einsum("bhd,md->bhm", queries, items)  # (B, H, M)
    return (torch.softmax(products / temperature, dim=1) * products).sum(dim=1)


def best_head(queries: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """The largest inner product over heads: queries (B, H, D) and items (M, D) to scores (B, M)."""
    return torch.einsum("bhd,md->bhm", queries, items).amax(dim=1)


def head_imbalance(
    queries: torch.Tensor, positives: torch.Tensor, temperature: float, weight: torch.Tensor
) -> torch.Tensor:
    """How unevenly the positives fall to the heads: queries (B, H, D), their positives (B, D), `weight` (B,), a scalar.

    It is log H less the entropy of the heads' mean weights in equation (1): 0 where each head has its share, log H
    where one has all. Without it one head wins more and more: equation (1) pushes a head that is more than beta below
    the score of a positive further from it, so that a head that falls behind on most queries is lost.
    """
    heads = queries.shape[1]
    if heads == 1:
        return queries.new_zeros(())
    products = torch.einsum("bhd,bd->bh", queries, positives)
    shares = torch.softmax(products / temperature, dim=1)  # (B, H)
    tiny = 1e-9  # it keeps the gradient finite where a head is lost, and where no row weighs anything
    mean = (shares * weight[:, None]).sum(0) / weight.sum().clamp_min(tiny)
    return (mean * torch.log(heads * mean + tiny)).sum()
