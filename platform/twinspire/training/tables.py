"""How the workers hold the tables: each all of them, `WholeTables`, or each a share, `ShardedTables`.

Either has a learner, and gives and takes a training's state as one process's. Every worker calls each method at the
same step, since with shares it takes them all; what is whole is then rank 0's alone.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed

from twinspire.model import TwoTower
from twinspire.model.sharding import (
    ShardableTwoTower,
    adagrad,
    load_plain,
    load_sums,
    plain_sums,
    plain_weights,
    shard,
)
from twinspire.training.compute import Compute
from twinspire.training.exchange import GradientExchange

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twinspire.model import Architecture
    from twinspire.training.config import TrainingConfig
    from twinspire.training.learner import Learner

AGREE_EVERY = 8  # steps between two questions to rank 0


def hold(
    model: TwoTower, towers: Architecture, training: TrainingConfig, device: str, learn: Callable[..., Learner]
) -> WholeTables | ShardedTables:
    """A model at its start, of the same seed on every worker, held as configured. `learn` makes its learner.

    Errors: EnvironmentProblem for shares without TorchRec.
    """
    if training.tables == "whole":
        return WholeTables(model, training, device, learn)
    return ShardedTables(model, towers, training, device, learn)


class WholeTables:
    """Every worker holds every table, and steps by the mean gradient of all."""

    def __init__(self, model: TwoTower, training: TrainingConfig, device: str, learn: Callable[..., Learner]) -> None:
        self.model = model.to(device)
        self.learner = learn(Compute(model, training, device))
        if training.workers > 1:
            exchange = GradientExchange(model.parameters())
            self.learner.optimiser.register_step_pre_hook(lambda *_: exchange())
            for tensor in model.state_dict().values():  # workers that start apart would stay apart
                distributed.broadcast(tensor, src=0)

    def agree(self, due: bool, _step: int) -> bool:
        """Whether a checkpoint is due: each says so for itself, since one can write it alone."""
        return due

    def whole(self) -> TwoTower | None:
        """The model as one process has it; None where this worker has not."""
        return self.model

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights of now, which training does not touch any more."""
        return copy.deepcopy(self.model.state_dict())

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on from here."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self.learner.optimiser.state_dict(),
            "schedule": self.learner.schedule.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what rank 0's `state` gave."""
        self.model.load_state_dict(state["model"])
        self.learner.optimiser.load_state_dict(state["optimiser"])
        self.learner.schedule.load_state_dict(state["schedule"])


class ShardedTables:
    """Each worker holds a share (TorchRec): a part of every table's rows on GPUs, some of the tables on CPUs.

    What is whole lies in rank 0's main memory, where it is asked for.
    """

    def __init__(
        self,
        model: TwoTower,
        towers: Architecture,
        training: TrainingConfig,
        device: str,
        learn: Callable[..., Learner],
    ) -> None:
        self.towers, self.device = towers, torch.device(device)
        how = "row_wise" if self.device.type == "cuda" else "table_wise"
        compute = Compute(model, training, device)  # its towers, compiled or not, move into what is sharded
        self.sharded = shard(ShardableTwoTower(towers, model), training.learning_rate, self.device, how)
        compute.module = self.sharded
        self.learner = learn(compute, optimiser=adagrad(self.sharded, training.learning_rate))

    def agree(self, due: bool, step: int) -> bool:
        """Whether a checkpoint is due, by the clock of rank 0: nobody can write one alone."""
        if step % AGREE_EVERY:
            return False
        said = torch.tensor(int(due), device=self.device)
        distributed.broadcast(said, src=0)
        return bool(said)

    def whole(self) -> TwoTower | None:
        """The model as one process has it; None where this worker has not."""
        weights = self.weights()
        if distributed.get_rank() != 0:
            return None
        with torch.device("meta"):
            model = TwoTower(self.towers)
        model.load_state_dict(weights, assign=True)
        return model

    def weights(self) -> dict[str, torch.Tensor]:
        """The weights of now, which training does not touch any more."""
        return {name: value.cpu().clone() for name, value in plain_weights(self.sharded).items()}

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on from here."""
        return {
            "model": plain_weights(self.sharded),
            "sums": plain_sums(self.sharded, self.learner.optimiser),
            "steps": self.learner.schedule.last_epoch,
            "rate": self.learner.schedule.get_last_lr()[-1],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what rank 0's `state` gave."""
        load_plain(self.sharded, state["model"])
        load_sums(self.sharded, self.learner.optimiser, state["sums"])
        self.learner.schedule.last_epoch = state["steps"]
        for group in self.learner.optimiser.param_groups:
            group["lr"] = state["rate"]
