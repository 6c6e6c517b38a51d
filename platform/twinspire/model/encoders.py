"""Encoders: one feature of a query, shopper or item to one vector. A new kind of encoder is a new class here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from twinspire.model.bags import Bag


class BagEncoder(nn.Module):
    """The mean of a bag's rows of the table named `table`, by their weights; an empty bag is the zero vector.

    Tables are shared between encoders, so they are handed in. `dropout` empties whole bags while training, so that
    the tower learns to do without the feature. `gain` is a learnt factor.
    """

    def __init__(self, table: str, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.table = table_key(table)
        self.dropout = dropout
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, bag: Bag, tables: nn.ModuleDict) -> torch.Tensor:
        """Bag of B rows to (B, D)."""
        return self.finish(pooled(bag, tables[self.table]))  # type: ignore[arg-type]

    def finish(self, vectors: torch.Tensor) -> torch.Tensor:
        """What follows the look-up: pooled rows (B, D) to (B, D)."""
        vectors = vectors * self.gain
        return vectors if self.keeps_all else vectors * self.keep(len(vectors))

    @property
    def keeps_all(self) -> bool:
        """Whether no bag is dropped now."""
        return not (self.training and self.dropout)

    def keep(self, size: int) -> torch.Tensor:
        """Which of B bags are not dropped, (B, 1) bool."""
        return torch.rand(size, 1, device=self.gain.device) >= self.dropout


def scales(encoders: Sequence[BagEncoder], size: int) -> torch.Tensor:
    """What the pooled rows of S encoders are multiplied by in `finish`, (B, S)."""
    gains = torch.stack([encoder.gain for encoder in encoders]).expand(size, -1)
    if all(encoder.keeps_all for encoder in encoders):
        return gains
    kept = torch.ones(size, len(encoders), device=gains.device)
    for place, encoder in enumerate(encoders):
        if not encoder.keeps_all:
            kept[:, place : place + 1] = encoder.keep(size)
    return gains * kept


def pooled(bag: Bag, table: nn.EmbeddingBag) -> torch.Tensor:
    """The mean of each bag's rows, (B, D), weighted where the bag has weights."""
    if bag.weights is None:
        return table(bag.rows, bag.offsets)  # type: ignore[no-any-return]
    return functional.embedding_bag(
        bag.rows,
        table.weight,
        bag.offsets,
        mode="sum",
        sparse=table.sparse,
        per_sample_weights=bag.weights,
        include_last_offset=True,
    )


def table_key(name: str) -> str:
    """The name of a table as torch allows it in a ModuleDict."""
    return name.replace(".", "/")


def make_table(rows: int, dim: int, *, scale: torch.Tensor | float, sparse: bool) -> nn.EmbeddingBag:
    """A table (V, D) of random directions with lengths `scale`, a number or (V,).

    Random directions are nearly orthogonal, so that before any training two bags are as alike as the tokens they share.
    """
    table = nn.EmbeddingBag(rows, dim, mode="mean", sparse=sparse, include_last_offset=True)
    with torch.no_grad():
        table.weight.normal_(0, dim**-0.5)
        table.weight.mul_(scale.unsqueeze(1) if isinstance(scale, torch.Tensor) else scale)
    return table
