"""Tables that are too large for one GPU: TorchRec splits them by rows (paper, 5.1.3).

Each worker holds a share of every table's rows and looks up and adds up what all workers need of them: between machines
go the pooled embeddings, not their tokens' rows, and no gradient of a row. Needs the extra `gpu-sharded`.

`fit` does not offer it yet: its validation and its checkpoints read whole tables.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from twinspire.errors import EnvironmentProblem
from twinspire.model.encoders import table_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twinspire.model.bags import Bag, Features
    from twinspire.model.encoders import BagEncoder
    from twinspire.model.towers import Architecture, Tower, TwoTower

EXTRA = "gpu-sharded"


def check_torchrec() -> None:
    """Errors: EnvironmentProblem where the extra is not installed."""
    if find_spec("torchrec") is None or find_spec("fbgemm_gpu") is None:
        raise EnvironmentProblem(f"sharded tables need TorchRec; install twinspire with the extra: twinspire[{EXTRA}]")


class ShardableTwoTower(nn.Module):
    """A TwoTower over one TorchRec collection of tables, which `shard` can split. Computes what `plain` does.

    All bags of a batch go in one call, so that one exchange of pooled embeddings serves both towers: the side with
    fewer examples is filled up with empty bags.
    """

    def __init__(self, architecture: Architecture, plain: TwoTower) -> None:
        """Takes over the towers of `plain` and copies its tables' rows. Errors: EnvironmentProblem without TorchRec."""
        super().__init__()
        check_torchrec()
        import torchrec

        sides = (("query", architecture.query), ("item", architecture.item))
        self.keys = {side: [f"{side}:{slot.feature}" for slot in slots] for side, slots in sides}
        reads = {f"{side}:{slot.feature}": slot.table for side, slots in sides for slot in slots}
        self.tables = torchrec.EmbeddingBagCollection(
            tables=[
                torchrec.EmbeddingBagConfig(
                    name=table_key(name),
                    embedding_dim=architecture.config.dim,
                    num_embeddings=rows,
                    feature_names=[key for key, table in reads.items() if table == name],
                    pooling=torchrec.PoolingType.SUM,
                )
                for name, rows in architecture.tables.items()
            ],
            is_weighted=True,  # of a mean, one over the bag's length
        )
        self.query_tower, self.item_tower = plain.query_tower, plain.item_tower
        with torch.no_grad():
            for name, table in plain.tables.items():
                self.tables.embedding_bags[name].weight.copy_(table.weight)

    def forward(self, queries: Features, items: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of B queries and M items to (B, H, D) and (M, D)."""
        named = [queries[name] for name in self.query_tower.names], [items[name] for name in self.item_tower.names]
        size = max(len(bags[0].offsets) - 1 for bags in named)
        pooled = self.tables(keyed([*self.keys["query"], *self.keys["item"]], [*named[0], *named[1]], size)).to_dict()
        query_vectors = _combine(self.query_tower, [pooled[key] for key in self.keys["query"]], named[0])
        item_vectors = _combine(self.item_tower, [pooled[key] for key in self.keys["item"]], named[1])
        return query_vectors, item_vectors[:, 0]


def keyed(keys: list[str], bags: Sequence[Bag], size: int) -> Any:
    """Bags as a KeyedJaggedTensor of `size` bags a key, empty ones behind those there are."""
    import torchrec

    lengths = [torch.diff(bag.offsets) for bag in bags]
    weights = [
        bag.weights if bag.weights is not None else torch.repeat_interleave(1 / length, length)
        for bag, length in zip(bags, lengths, strict=True)
    ]
    return torchrec.KeyedJaggedTensor.from_lengths_sync(
        keys=keys,
        values=torch.cat([bag.rows for bag in bags]),
        lengths=torch.cat([nn.functional.pad(length, (0, size - len(length))) for length in lengths]),
        weights=torch.cat(weights),
    )


def shard(model: ShardableTwoTower, learning_rate: float, device: torch.device, how: str = "row_wise") -> Any:
    """Split the model's tables over the default process group; gives TorchRec's DistributedModelParallel.

    Table rows are learned by Adagrad inside the backward pass; `adagrad` gives the optimiser of the whole. TorchRec
    offers `row_wise` on GPUs only.
    """
    from torch import distributed
    from torch.distributed.optim.apply_optimizer_in_backward import _apply_optimizer_in_backward
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
    from torchrec.distributed.model_parallel import DistributedModelParallel
    from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
    from torchrec.distributed.types import ShardingEnv

    group = distributed.group.WORLD
    assert group is not None
    _apply_optimizer_in_backward(torch.optim.Adagrad, model.tables.parameters(), {"lr": learning_rate, "eps": 1e-10})
    constraints = {name: ParameterConstraints(sharding_types=[how]) for name in model.tables.embedding_bags}
    topology = Topology(world_size=group.size(), compute_device=device.type)
    sharders: list[Any] = [EmbeddingBagCollectionSharder()]
    plan = EmbeddingShardingPlanner(topology=topology, constraints=constraints).collective_plan(model, sharders, group)
    weights = {name: value.clone() for name, value in plain_weights(model).items()}
    sharded = DistributedModelParallel(
        model, env=ShardingEnv.from_process_group(group), device=device, plan=plan, sharders=sharders
    )
    load_plain(sharded, weights)  # TorchRec starts its tables anew
    return sharded


@torch.no_grad()
def load_plain(sharded: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Put a TwoTower's state into a sharded model: each worker takes the rows that it holds."""
    from torch.distributed._shard.sharded_tensor.api import ShardedTensor

    for name, value in sharded.state_dict().items():
        whole = weights[_plain_name(name)]
        if not isinstance(value, ShardedTensor):
            value.copy_(whole)
            continue
        for part in value.local_shards():
            (row, column), (rows, columns) = part.metadata.shard_offsets, part.metadata.shard_sizes
            part.tensor.copy_(whole[row : row + rows, column : column + columns])


def adagrad(sharded: Any, learning_rate: float) -> Any:
    """The optimiser of a sharded model: its tables', whose step only sets the rate, and Adagrad for the rest."""
    from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
    from torchrec.optim.optimizers import in_backward_optimizer_filter

    dense = dict(in_backward_optimizer_filter(sharded.named_parameters()))
    rest = KeyedOptimizerWrapper(dense, lambda parameters: torch.optim.Adagrad(parameters, lr=learning_rate))
    return CombinedOptimizer([sharded.fused_optimizer, rest])


def plain_weights(model: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a shardable or sharded model as a TwoTower's; every worker must call it.

    Of sharded tables only rank 0 receives the rows, in its main memory; elsewhere they are empty.
    """
    from torch.distributed._shard.sharded_tensor.api import ShardedTensor

    found = {}
    for name, value in model.state_dict().items():
        if isinstance(value, ShardedTensor):
            value = _gathered(value)
        found[_plain_name(name)] = value
    return found


def _plain_name(name: str) -> str:
    return name.replace("tables.embedding_bags.", "tables.")


def _gathered(value: Any) -> torch.Tensor:
    from torch import distributed

    here = distributed.get_rank() == 0
    whole = torch.empty(value.size() if here else 0, device="cpu")
    value.gather(dst=0, out=whole if here else None)
    return whole


def _combine(tower: Tower, pooled: list[torch.Tensor], bags: Sequence[Bag]) -> torch.Tensor:
    size = len(bags[0].offsets) - 1
    encoders: list[BagEncoder] = list(tower.encoders)  # type: ignore[arg-type]
    vectors = [encoder.finish(part[:size]) for encoder, part in zip(encoders, pooled, strict=True)]
    return tower.combine(torch.stack(vectors, dim=1))
