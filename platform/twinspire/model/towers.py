"""The two towers (4.1, 4.2): encoders, one MLP for the item, a projection to H heads and one MLP a head for the query.

A skip path adds the encoders' vectors to the MLP's output, which starts near zero: an untrained model already
retrieves by the tokens that query and title share, and training moves away from there. Outputs have length 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from torch.nn import functional

from twinspire.model.encoders import BagEncoder, draw_kept, make_table, table_key
from twinspire.model.projection import Side, project

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twinspire.model.bags import Features


class ModelConfig(BaseModel):
    """Sizes of the two towers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dim: int = Field(
        256, ge=2, le=4096, description="embedding dimension D; unset, large catalogues get less (`Config.sized`)"
    )
    hidden: int = Field(256, ge=1, le=16_384, description="width of each MLP's hidden layer")
    heads: int = Field(1, ge=1, le=16, description="query heads H")
    head_temperature: float = Field(0.03, gt=0, description="beta of equation (1): how soft the choice among heads is")
    skip: bool = Field(True, description="add the encoders' vectors to the output")


class FeatureSlot(BaseModel):
    """One encoder of a tower: the feature it reads, the table it looks up, how often it is dropped in training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    feature: str
    table: str
    dropout: float = 0.0


class Architecture(BaseModel):
    """All that is needed to build the towers: config, table sizes, encoders of each tower."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: ModelConfig
    tables: dict[str, int]
    query: tuple[FeatureSlot, ...]
    item: tuple[FeatureSlot, ...]


class Tower(nn.Module):
    """Features of B examples to H unit vectors each, (B, H, D)."""

    def __init__(self, slots: Sequence[FeatureSlot], config: ModelConfig, heads: int) -> None:
        super().__init__()
        self.names = [slot.feature for slot in slots]
        self.encoders = nn.ModuleList(BagEncoder(slot.table, dropout=slot.dropout) for slot in slots)
        self.heads, self.hidden, self.skip = heads, config.hidden, config.skip
        self.project = nn.Linear(len(slots) * config.dim, heads * config.hidden)
        self.head_weight = nn.Parameter(torch.empty(heads, config.hidden, config.dim))
        self.head_bias = nn.Parameter(torch.zeros(heads, config.dim))
        nn.init.normal_(self.head_weight, std=config.hidden**-0.5 * (0.1 if config.skip else 1.0))

    def forward(self, features: Features, tables: nn.ModuleDict) -> torch.Tensor:
        """Feature name to Bag of B rows, for each name the tower knows; gives (B, H, D)."""
        vectors = [encoder(features[name], tables) for name, encoder in zip(self.names, self.encoders, strict=True)]
        return self.combine(torch.stack(vectors, dim=1))

    def side(self, features: Features, tables: nn.ModuleDict) -> Side:
        """What `project` needs of the tower."""
        encoders: list[BagEncoder] = list(self.encoders)  # type: ignore[arg-type]
        bags = [features[name] for name in self.names]
        return Side(
            bags,
            [tables[encoder.table] for encoder in encoders],  # type: ignore[misc]
            draw_kept(encoders, bags[0].size),
            torch.stack([encoder.gain for encoder in encoders]),
            self.project.weight,
            self.project.bias,
        )

    def combine(self, vectors: torch.Tensor) -> torch.Tensor:
        """The vectors of S encoders (B, S, D) to (B, H, D)."""
        return self.layers(self.project(vectors.flatten(1)), vectors.sum(1))

    def layers(self, projected: torch.Tensor, total: torch.Tensor) -> torch.Tensor:
        """What follows the projection: that, (B, H * hidden), and the sum of the vectors (B, D), to (B, H, D)."""
        hidden = torch.relu(projected).view(-1, self.heads, self.hidden)
        if self.heads == 1:
            output = torch.addmm(self.head_bias[0], hidden[:, 0], self.head_weight[0]).unsqueeze(1)
        else:
            output = torch.einsum("bhf,hfd->bhd", hidden, self.head_weight) + self.head_bias
        if self.skip:
            output = output + total.unsqueeze(1)
        return functional.normalize(output, dim=-1, eps=1e-6)


class TwoTower(nn.Module):
    """Query tower and item tower over shared tables."""

    def __init__(
        self,
        architecture: Architecture,
        *,
        scales: Mapping[str, torch.Tensor | float] | None = None,
        sparse: bool = False,
    ) -> None:
        """`scales` gives the initial row lengths of a table, a number or (V,); 1 where it is silent."""
        super().__init__()
        config = architecture.config
        scales = scales or {}
        self.tables = nn.ModuleDict(
            {
                table_key(name): make_table(rows, config.dim, scale=scales.get(name, 1.0), sparse=sparse)
                for name, rows in architecture.tables.items()
            }
        )
        self.query_tower = Tower(architecture.query, config, config.heads)
        self.item_tower = Tower(architecture.item, config, 1)

    def queries(self, features: Features) -> torch.Tensor:
        """Features of B queries (and their shoppers) to (B, H, D)."""
        return self.query_tower(features, self.tables)  # type: ignore[no-any-return]

    def items(self, features: Features) -> torch.Tensor:
        """Features of M items to (M, D)."""
        return self.item_tower(features, self.tables)[:, 0]  # type: ignore[no-any-return]

    def forward(self, queries: Features, items: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of B queries and M items to (B, H, D) and (M, D)."""
        if not self._projects_at_once():
            return self.queries(queries), self.items(items)
        towers = ((self.query_tower, queries), (self.item_tower, items))
        projected = project([tower.side(features, self.tables) for tower, features in towers])
        query_vectors, item_vectors = (
            tower.layers(*parts) for (tower, _), parts in zip(towers, projected, strict=True)
        )
        return query_vectors, item_vectors[:, 0]

    def _projects_at_once(self) -> bool:
        """Where `project` can do what the encoders would do one by one: float32 in main memory, sparse gradients."""
        here = all(table.sparse and table.weight.device.type == "cpu" for table in self.tables.values())
        return here and not torch.is_autocast_enabled("cpu")
