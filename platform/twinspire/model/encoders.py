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
        if self.drops:
            vectors = vectors * (torch.rand(len(vectors), 1, device=vectors.device) >= self.drops)
        return vectors

    @property
    def drops(self) -> float:
        """The share of bags that are dropped now."""
        return self.dropout if self.training else 0.0


def draw_kept(encoders: Sequence[BagEncoder], size: int) -> torch.Tensor:
    """Which bags of S encoders are not dropped, (S, B) bool: what `finish` would draw encoder by encoder."""
    kept = torch.ones(len(encoders), size, dtype=torch.bool)
    dropping = [place for place, encoder in enumerate(encoders) if encoder.drops]
    if dropping:
        drops = torch.tensor([encoders[place].drops for place in dropping])
        kept[dropping] = torch.rand(len(dropping), size) >= drops[:, None]
    return kept


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
