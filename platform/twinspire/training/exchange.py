"""Gradients between workers: after it, every worker holds their mean.

Dense gradients go as one tensor. Of an embedding table only the rows that a batch touched go: each worker first adds up
its duplicates, then the rows and values of all tables travel together, in four messages a step whatever the number of
tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import distributed

from twinspire.training.rows import distinct_rows

if TYPE_CHECKING:
    from collections.abc import Iterable


class GradientExchange:
    """Averages the gradients of `parameters` over the processes of the default group; call it after `backward`.

    Every worker must hold the same parameters in the same order, those of one (V, D) width that have sparse gradients
    on every worker alike.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.world = distributed.get_world_size()

    def __call__(self) -> None:
        """Replace each gradient with its mean over the workers."""
        sparse = [p for p in self.parameters if p.grad is not None and p.grad.is_sparse]
        dense = [p for p in self.parameters if p.grad is None or not p.grad.is_sparse]
        flat = torch.cat([_dense_gradient(parameter) for parameter in dense])
        waiting = distributed.all_reduce(flat, async_op=True)
        if sparse:
            self._exchange_rows(sparse)
        waiting.wait()
        flat /= self.world
        for parameter, values in zip(dense, torch.split(flat, [p.numel() for p in dense]), strict=True):
            parameter.grad = values.view_as(parameter)

    def _exchange_rows(self, tables: list[torch.nn.Parameter]) -> None:
        grads = [distinct_rows(parameter.grad) for parameter in tables]  # type: ignore[arg-type]
        counts = torch.tensor([len(rows) for rows, _ in grads], device=tables[0].device)
        all_counts = self._gather(counts)  # (workers, tables)
        longest = int(all_counts.sum(1).max())
        rows = _padded(torch.cat([rows for rows, _ in grads]).int(), longest)
        values = _padded(torch.cat([values for _, values in grads]) / self.world, longest)
        all_rows, all_values = self._gather(rows), self._gather(values)
        sizes = all_counts.tolist()
        for parameter, its_rows, its_values in zip(
            tables, _by_table(all_rows, sizes), _by_table(all_values, sizes), strict=True
        ):
            parameter.grad = torch.sparse_coo_tensor(its_rows.long()[None], its_values, tuple(parameter.shape))

    def _gather(self, mine: torch.Tensor) -> torch.Tensor:
        """Every worker's tensor of the same shape, one beside the other."""
        gathered = mine.new_empty((self.world, *mine.shape))
        distributed.all_gather_into_tensor(gathered.view(-1), mine.contiguous().view(-1))
        return gathered


def _dense_gradient(parameter: torch.nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        return torch.zeros(parameter.numel(), dtype=parameter.dtype, device=parameter.device)
    return parameter.grad.reshape(-1)


def _padded(values: torch.Tensor, length: int) -> torch.Tensor:
    """Zeros behind `values` to a length."""
    padded = values.new_zeros((length, *values.shape[1:]))
    padded[: len(values)] = values
    return padded


def _by_table(gathered: torch.Tensor, sizes: list[list[int]]) -> list[torch.Tensor]:
    """Each table's rows or values of all workers: worker w's `gathered[w]` holds `sizes[w]` of the tables in order."""
    workers = [torch.split(part[: sum(size)], size) for part, size in zip(gathered, sizes, strict=True)]
    return [torch.cat(parts) for parts in zip(*workers, strict=True)]
