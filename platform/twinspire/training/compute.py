"""How a model computes: in which precision, and compiled or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from twinspire.model import TwoTower
    from twinspire.model.bags import Features
    from twinspire.training.config import TrainingConfig


class Compute(nn.Module):
    """A TwoTower, `module`, whose dense layers run in the configured precision, compiled where asked for.

    Tables, parameters, their gradients and the vectors that come out are float32 all the same: bfloat16 is what the
    layers between multiply in. Compiled is each tower's part behind its tables, whose bags have a new size every step.
    """

    def __init__(self, module: TwoTower, training: TrainingConfig, device: str) -> None:
        super().__init__()
        self.module: nn.Module = module
        self.device_kind = torch.device(device).type
        self.in_bfloat16 = use_bfloat16(training, self.device_kind)
        if use_compile(training, self.device_kind):
            part = "layers" if self.device_kind == "cpu" else "combine"  # on a CPU the projection goes with the look-up
            for tower in (module.query_tower, module.item_tower):
                setattr(tower, part, torch.compile(getattr(tower, part), dynamic=True))

    def forward(self, queries: Features, items: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of B queries and M items to (B, H, D) and (M, D), float32."""
        if not self.in_bfloat16:
            return self.module(queries, items)  # type: ignore[no-any-return]
        with torch.autocast(self.device_kind, torch.bfloat16):
            query_vectors, item_vectors = self.module(queries, items)
        return query_vectors.float(), item_vectors.float()


def use_bfloat16(training: TrainingConfig, kind: str) -> bool:
    """`auto`: on a GPU that multiplies bfloat16 in hardware."""
    if training.precision == "auto":
        return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return training.precision == "bfloat16"


def use_compile(training: TrainingConfig, kind: str) -> bool:
    """`auto`: on a GPU."""
    return kind == "cuda" if training.compile == "auto" else training.compile
