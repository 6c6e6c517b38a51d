"""Bags of table rows as tensors, the form in which every feature reaches a tower."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from twinspire.ragged import Ragged


class Bag(NamedTuple):
    """`rows` (T,) and `offsets` (B + 1,), integers: bag i is rows[offsets[i]:offsets[i + 1]].

    `weights` (T,) f32 of the rows, adding up to 1 in each bag; None where all rows of a bag weigh the same.
    """

    rows: torch.Tensor
    offsets: torch.Tensor
    weights: torch.Tensor | None = None

    @property
    def size(self) -> int:
        """B."""
        return self.offsets.numel() - 1


Features = dict[str, Bag]


def to_bags(features: Mapping[str, Ragged], device: torch.device | str = "cpu") -> Features:
    """Arrays to tensors; on the CPU without a copy where the types already fit."""
    return {
        name: Bag(
            torch.from_numpy(ragged.values.astype("int64", copy=False)).to(device, non_blocking=True),
            torch.from_numpy(ragged.offsets).to(device, non_blocking=True),
            None if ragged.weights is None else torch.from_numpy(ragged.weights).to(device, non_blocking=True),
        )
        for name, ragged in features.items()
    }
